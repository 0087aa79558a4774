//! Lines of the log: formats, fields, levels, the bounded writer, slow operations.

use std::{
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::Duration,
};

use infra_core::{SystemClock, context::Context, id::CorrelationId, random::Random};
use infra_observability::log::{
    self, Format, Levels, Lines as Layer, Secret, Slow, Writer, WriterOptions, timed,
};
use serde_json::json;
use tracing::{Instrument, Level};
use tracing_subscriber::{Registry, layer::SubscriberExt};

use crate::support::{Lines, clock};

fn logged(filter: &str, format: Format, work: impl FnOnce()) -> Lines {
    let lines = Lines::default();
    let (admit, _levels) = Levels::new(filter, clock().1).unwrap();
    let layer = Layer::new(format, clock().1, lines.clone());
    tracing::subscriber::with_default(Registry::default().with(admit).with(layer), work);
    lines
}

#[test]
fn json_has_exact_levels_rfc3339_times_fields_and_one_line_an_entry() {
    let lines = logged("debug", Format::Json, || {
        tracing::debug!("first\r\nsecond\u{7}\u{2028}");
        tracing::info!(user_id = 123, "info");
        tracing::error!(error_code = 500, ratio = f64::NAN, "error");
    });
    assert_eq!(lines.text().lines().count(), 3);
    let entries = lines.json();
    let levels: Vec<_> = entries.iter().map(|entry| entry["level"].as_str().unwrap()).collect();
    assert_eq!(levels, ["DEBUG", "INFO", "ERROR"]);
    assert_eq!(entries[0]["message"], "first\r\nsecond\u{7}\u{2028}");
    assert_eq!((&entries[1]["user_id"], &entries[2]["error_code"]), (&json!(123), &json!(500)));
    assert_eq!(entries[2]["ratio"], "NaN");
    let time = entries[0]["timestamp"].as_str().unwrap();
    assert_eq!((time.len(), time.ends_with('Z'), time.as_bytes()[10]), (24, true, b'T'));
}

#[test]
fn logfmt_and_text_for_people_stay_one_line_and_quote_what_they_must() {
    let speak = || {
        let span = tracing::info_span!("room", room = "AB12");
        let _inside = span.enter();
        tracing::warn!(name = "Ann \"x\"\nlevel=ERROR", live = true, "played\n2026 fake");
    };
    let logfmt = logged("info", Format::Logfmt, speak).text();
    assert_eq!(logfmt.lines().count(), 1);
    assert!(logfmt.contains("level=WARN") && logfmt.contains("message=\"played\\n2026 fake\""));
    assert!(logfmt.contains(r#"name="Ann \"x\"\nlevel=ERROR" live=true room=AB12 spans=room"#));
    let pretty = logged("info", Format::Pretty, speak).text();
    assert_eq!(pretty.lines().count(), 1);
    assert!(pretty.contains(" WARN ") && pretty.contains("{room}: ! played\\n2026 fake name="));
}

#[test]
fn every_level_admits_itself_and_what_is_worse_and_a_target_has_its_own() {
    let speak = || {
        tracing::error!("e");
        tracing::warn!("w");
        tracing::info!("i");
        tracing::debug!("d");
        tracing::trace!("t");
        tracing::debug!(target: "infra_ws::hub", "hub");
    };
    let said = |filter: &str| {
        let entries = logged(filter, Format::Json, speak).json();
        entries.iter().map(|e| e["message"].as_str().unwrap().to_owned()).collect::<String>()
    };
    let table = [
        ("off", ""),
        ("error", "e"),
        ("warn", "ew"),
        ("info", "ewi"),
        ("debug", "ewidhub"),
        ("trace", "ewidthub"),
        ("error,infra_ws=debug", "ehub"),
    ];
    for (filter, wanted) in table {
        assert_eq!(said(filter), wanted, "{filter}");
    }
}

#[test]
fn levels_change_while_it_runs_per_target_and_per_room_and_fall_back_by_themselves() {
    let lines = Lines::default();
    let (hands, time) = clock();
    let (admit, levels) = Levels::new("warn", time.clone()).unwrap();
    let subscriber =
        Registry::default().with(admit).with(Layer::new(Format::Json, time, lines.clone()));
    let speak = |room: &'static str| {
        let before = lines.text().len();
        let span = tracing::error_span!("room", room);
        let _inside = span.enter();
        tracing::debug!(target: "infra_ws", "detail");
        before < lines.text().len()
    };
    tracing::subscriber::with_default(subscriber, || {
        assert!(!speak("AB12"));
        levels.raise("infra_ws", Level::DEBUG, Duration::from_mins(1)).unwrap();
        assert!(speak("AB12"));
        hands.advance(Duration::from_mins(1));
        levels.expire();
        assert!(!speak("AB12") && levels.raised().is_empty());
        levels.raise_within("room", "AB12", Level::DEBUG, Duration::from_mins(1)).unwrap();
        assert_eq!((speak("AB12"), speak("CD34")), (true, false));
        hands.advance(Duration::from_mins(1));
        levels.expire();
        assert!(!speak("AB12"));
        levels.set_base("debug").unwrap();
        assert!(speak("AB12"));
        assert!(levels.set_base("a=b=c").is_err() && speak("AB12"), "a bad filter changes nothing");
    });
    assert!(levels.raise("a,b", Level::INFO, Duration::ZERO).is_err());
    assert!(levels.raise_within("room", "A}]=x", Level::INFO, Duration::ZERO).is_err());
    let mins = Duration::from_mins(1);
    let raised = (0..40).filter(|n| levels.raise(&format!("t{n}"), Level::INFO, mins).is_ok());
    // The subscriber is gone, so nothing can be changed any more; that is an error, not a panic.
    assert!(raised.count() <= 32);
    assert!(format!("{levels:?}").starts_with("Levels("));
}

#[test]
fn a_child_adds_to_its_parent_the_nearest_wins_and_reserved_names_are_kept() {
    let lines = logged("info", Format::Json, || {
        let parent = tracing::info_span!("parent", request_id = "req1", user_id = "user1");
        let _parent = parent.enter();
        {
            let child = tracing::info_span!("child", request_id = "req123", timestamp = "forged");
            let _child = child.enter();
            tracing::info!(user_id = "user456", message_ = 1, "once");
        }
        tracing::info!("parent");
    });
    let [child, parent] = lines.json().try_into().unwrap();
    assert_eq!((&child["request_id"], &child["user_id"]), (&json!("req123"), &json!("user456")));
    assert_eq!(child["timestamp_"], "forged");
    assert_eq!(child["spans"], json!(["parent", "child"]));
    assert_eq!((&parent["request_id"], parent.get("timestamp_")), (&json!("req1"), None));
}

#[tokio::test]
async fn context_is_that_of_its_task_however_tasks_interleave() {
    let lines = Lines::default();
    let subscriber = log::subscriber("info", clock().1, lines.clone()).unwrap();
    let _default = tracing::subscriber::set_default(subscriber);
    let random = Random::seeded(7);
    let ids: Vec<CorrelationId> = (0..20)
        .map(|_| CorrelationId::generate(infra_core::clock::Timestamp::EPOCH, &random))
        .collect();
    let tasks: Vec<_> = ids
        .iter()
        .map(|id| {
            let room = id.to_string();
            let work = async move {
                for step in 0..5 {
                    tracing::info!(step, "working");
                    tokio::task::yield_now().await;
                }
            };
            let span = tracing::info_span!("room", room_id = %room);
            tokio::spawn(Context::default().correlation(*id).scope(work.instrument(span)))
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    tracing::info!("after");
    let mut entries = lines.json();
    let after = entries.pop().unwrap();
    assert_eq!((after.get("correlation_id"), after.get("room_id")), (None, None));
    assert_eq!(entries.len(), 100);
    assert!(entries.iter().all(|entry| entry["correlation_id"] == entry["room_id"]));
}

#[test]
fn secrets_are_taken_out_by_type_and_by_name() {
    let lines = logged("info", Format::Json, || {
        let key = Secret::new("c4nary");
        let span = tracing::info_span!("room", hand = "c4nary");
        let _inside = span.enter();
        tracing::info!(?key, resume_token = "c4nary", api_secret = "c4nary", "with {key}");
        tracing::info!(resumeToken = "c4nary", PASSWORD = "c4nary", "in any case");
    });
    assert!(!lines.text().contains("c4nary"), "{}", lines.text());
    assert_eq!(lines.text().matches("[redacted]").count(), 8);
}

/// A sink that stands still until it is let go, and counts the lines that it takes.
struct Gate(mpsc::Receiver<()>, Arc<AtomicU64>);

impl Write for Gate {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        // An error is the gate thrown open for good.
        let _opened = self.0.recv().is_ok();
        let lines = buf.iter().filter(|byte| **byte == b'\n').count();
        self.1.fetch_add(lines as u64, Ordering::SeqCst);
        Ok(buf.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn two_million_lines_into_a_sink_that_stands_still_are_bounded_and_every_loss_is_counted() {
    let all = 2_000_000_u64;
    let (open, closed) = mpsc::channel();
    let taken = Arc::new(AtomicU64::new(0));
    let options = WriterOptions::default().capacity(64 * 1024);
    let writer = Writer::start(options, Gate(closed, taken.clone())).unwrap();
    let mut hand = writer.clone();
    for _ in 0..all {
        hand.write_all(b"a line of the log that is of a usual length, more or less\n").unwrap();
    }
    assert!(!writer.flush(Duration::from_millis(1)), "the deadline holds");
    drop(open);
    assert!(writer.flush(Duration::from_secs(30)));
    assert_eq!(writer.written() + writer.dropped(), all);
    assert_eq!(writer.written(), taken.load(Ordering::SeqCst));
    // At most one buffer on its way and one that waits: everything else was dropped.
    assert!(writer.written() <= 2 * 64 * 1024 / 58 + 1, "{writer:?}");
}

#[test]
fn a_flush_writes_every_line_of_many_threads_and_failures_are_counted() {
    let lines = Lines::default();
    let options = WriterOptions::default().capacity(16 << 20);
    let writer = Writer::start(options, lines.clone()).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let mut hand = writer.clone();
            scope.spawn(move || {
                (0..500).for_each(|line| {
                    hand.write_all(format!("{thread} {line}\n").as_bytes()).unwrap()
                });
            });
        }
    });
    assert!(writer.flush(Duration::from_secs(30)));
    assert_eq!(lines.text().lines().count(), 2_000);
    assert_eq!((writer.written(), writer.dropped(), writer.failed()), (2_000, 0, 0));

    struct Broken;
    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("disk gone"))
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let broken = Writer::start(WriterOptions::default(), Broken).unwrap();
    broken.clone().write_all(b"lost\n").unwrap();
    assert!(broken.flush(Duration::from_secs(30)));
    assert_eq!((broken.written(), broken.failed()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn the_end_of_an_operation_is_logged_once_with_its_exact_duration() {
    let lines = Lines::default();
    let time = SystemClock::shared();
    let subscriber = log::subscriber("info", time.clone(), lines.clone()).unwrap();
    let _default = tracing::subscriber::set_default(subscriber);
    let pause = || tokio::time::sleep(Duration::from_millis(100));
    let done: Result<&str, String> = timed("test_operation", &*time, async {
        pause().await;
        Ok("done")
    })
    .await;
    let failed: Result<(), String> = timed("other", &*time, async {
        pause().await;
        Err("disk gone".to_owned())
    })
    .await;
    assert_eq!((done, failed), (Ok("done"), Err("disk gone".to_owned())));
    let slow = Slow::new(Duration::from_millis(100), time);
    slow.watch("quick", pause()).await;
    slow.watch("slow", async { tokio::time::sleep(Duration::from_millis(101)).await }).await;
    let [done, failed, slow] = lines.json().try_into().unwrap();
    assert_eq!(
        (&done["message"], &done["status"]),
        (&json!("test_operation completed"), &json!("success"))
    );
    assert_eq!(done["duration_seconds"], 0.1);
    assert_eq!((&failed["status"], &failed["error"]), (&json!("error"), &json!("disk gone")));
    assert_eq!((&slow["operation"], &slow["level"]), (&json!("slow"), &json!("WARN")));
    assert_eq!(slow["duration_seconds"], 0.101);
}

#[cfg(feature = "files")]
#[test]
fn files_take_lines_and_old_ones_go() {
    let folder = tempfile::tempdir().unwrap();
    for old in ["game.2020-01-01.log", "game.2020-01-02.log", "game.2020-01-03.log"] {
        std::fs::write(folder.path().join(old), "old\n").unwrap();
    }
    let sink = log::files(folder.path(), "game", log::Every::Day, 2).unwrap();
    let writer = Writer::start(WriterOptions::default(), sink).unwrap();
    writer.clone().write_all(b"new\n").unwrap();
    assert!(writer.flush(Duration::from_secs(30)));
    let files: Vec<String> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap())
        .collect();
    assert!(files.len() <= 2 && files.contains(&"new\n".to_owned()), "{files:?}");
}
