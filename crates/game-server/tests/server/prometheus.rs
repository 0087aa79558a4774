//! Strict readers of the server's metrics: a real Prometheus that scrapes it under load and answers
//! every query with data, promtool's linter, and the reference parser of `OpenMetrics`.

use std::{
    io::Write as _,
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use game_server::{
    declarations,
    generate::{DASHBOARDS, RULES, files, write},
};
use serde_json::{Value, json};

use crate::{
    observed::watched,
    play::play_on,
    raw,
    support::{Host, act, eventually, start},
};

/// A Prometheus of the test's own; it ends with this value.
#[derive(Debug)]
struct Prometheus {
    child: Child,
    addr: SocketAddr,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ended = self.child.kill().is_ok() && self.child.wait().is_ok();
    }
}

impl Prometheus {
    /// Starts one that scrapes `target` each half second and evaluates the rules as often.
    async fn start(folder: &Path, target: SocketAddr) -> Self {
        let config = format!(
            "global: {{scrape_interval: 500ms, evaluation_interval: 500ms, scrape_timeout: 400ms}}\n\
             rule_files: [prometheus/rules.yml]\n\
             scrape_configs:\n  - job_name: game-server\n    static_configs: [{{targets: ['{target}']}}]\n"
        );
        std::fs::write(folder.join("prometheus.yml"), config).unwrap();
        // A port that is free now; whoever takes it in between fails the test loudly.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = free.local_addr().unwrap();
        drop(free);
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", folder.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("tsdb").display()))
            .arg(format!("--web.listen-address={addr}"))
            .arg("--enable-feature=exemplar-storage")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("prometheus must be installed: apt-get install prometheus");
        let prometheus = Self { child, addr };
        for _ in 0..200 {
            if tokio::net::TcpStream::connect(addr).await.is_ok() {
                return prometheus;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("prometheus does not listen");
    }

    async fn get(&self, path: &str) -> Value {
        let (status, _, body) = raw::get(self.addr, path, &[]).await;
        // The answer may come in chunks: the JSON is what is between the outermost braces.
        let json = body.find('{').zip(body.rfind('}')).and_then(|(from, to)| body.get(from..=to));
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(json.unwrap()).unwrap()
    }

    /// Returns how many series a query yields.
    async fn series(&self, query: &str) -> usize {
        let encoded: String = url::form_urlencoded::byte_serialize(query.as_bytes()).collect();
        let answer = self.get(&format!("/api/v1/query?query={encoded}")).await;
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        answer["data"]["result"].as_array().unwrap().len()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_query_of_every_dashboard_and_rule_answers_with_data() {
    let host = start().await;
    let folder = tempfile::tempdir().unwrap();
    write(&files(&declarations()).unwrap(), folder.path()).unwrap();
    let prometheus = Prometheus::start(folder.path(), host.server.admin_addr()).await;
    let mut queries: Vec<&str> = DASHBOARDS
        .iter()
        .flat_map(infra_observability::generate::Dashboard::queries)
        .chain(RULES.queries())
        .collect();
    queries.sort_unstable();
    queries.dedup();
    let all = queries.len();
    assert!(60 < all, "{all}");
    for game in 0..40 {
        let mut player = host.host(&format!("Player {game}")).await;
        act(&mut player, &json!({"type": "start", "action": 1})).await;
        play_on(&mut player, 1).await;
        let mut silent = Vec::new();
        for query in queries {
            if prometheus.series(query).await == 0 {
                silent.push(query);
            }
        }
        queries = silent;
        if queries.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    assert!(queries.is_empty(), "{} of {all} are without data: {queries:#?}", queries.len());
    let rules = prometheus.get("/api/v1/rules").await;
    let groups = rules["data"]["groups"].as_array().unwrap();
    let rules: Vec<&Value> =
        groups.iter().flat_map(|group| group["rules"].as_array().unwrap()).collect();
    assert_eq!(rules.len(), RULES.recordings.len() + RULES.alerts.len());
    for rule in rules {
        assert_eq!(rule["health"], "ok", "{rule}");
    }
    let targets = prometheus.get("/api/v1/targets").await;
    let target = &targets["data"]["activeTargets"][0];
    assert_eq!((&target["health"], &target["lastError"]), (&json!("up"), &json!("")), "{target}");
}

/// Gives a program a text to read; returns whether it was content, and what it said.
fn read_by(program: &str, arguments: &[&str], text: &str) -> (bool, String) {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program} must be installed: {error}"));
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

/// Reads a page by the reference parser of `OpenMetrics`; says how many families, samples and
/// exemplars it found.
const PARSER: &str = r"
import sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse
families = samples = exemplars = 0
for family in parse(sys.stdin.read()):
    families += 1
    samples += len(family.samples)
    exemplars += sum(sample.exemplar is not None for sample in family.samples)
print(families, samples, exemplars)
";

/// Reads a page of `OpenMetrics` strictly; what is found is families, samples and exemplars.
fn open_metrics(page: &str) -> Result<[usize; 3], String> {
    let python = std::env::var("INFRA_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let (is_good, said) = read_by(&python, &["-c", PARSER], page);
    assert!(
        !said.contains("No module named"),
        "{python} lacks prometheus-client; `cargo xtask services up` installs it: {said}"
    );
    if !is_good {
        return Err(said);
    }
    let counts: Vec<usize> = said.split_whitespace().map(|count| count.parse().unwrap()).collect();
    Ok(counts.try_into().unwrap())
}

/// Plays a game to its end, so that every kind of figure has moved.
async fn play(host: &Host) {
    let mut player = host.host("Mei").await;
    act(&mut player, &json!({"type": "start", "action": 1})).await;
    play_on(&mut player, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promtool_and_the_reference_parser_find_nothing_to_say_of_the_page_of_a_played_game() {
    let (host, _sink, _collector) = watched("info").await;
    play(&host).await;
    let page = async |accept: &str| {
        let addr = host.server.admin_addr();
        let (status, kind, page) = raw::get(addr, "/metrics", &[("accept", accept)]).await;
        assert_eq!(status, 200);
        (kind, page)
    };
    let (kind, plain) = page("text/plain").await;
    assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
    let (is_good, said) = read_by("promtool", &["check", "metrics"], &plain);
    assert!(is_good && said.is_empty(), "{said}");
    let (is_good, _) =
        read_by("promtool", &["check", "metrics"], &plain.replace("# TYPE", "# TIPE"));
    assert!(!is_good, "the linter misses what is wrong");

    let (kind, open) = page("application/openmetrics-text;version=1.0.0").await;
    assert!(kind.starts_with("application/openmetrics-text; version=1.0.0"), "{kind}");
    let [families, samples, exemplars] = open_metrics(&open).unwrap();
    println!("{families} families, {samples} samples, {exemplars} exemplars");
    assert!(declarations().len() <= families, "{families}");
    assert!(families < samples && 0 < exemplars, "{samples} samples, {exemplars} exemplars");
    let faults = [("# EOF\n", ""), ("le=\"+Inf\"", "le=\"9e99\""), ("# TYPE", "# TIPE")];
    for (good, bad) in faults {
        assert!(open_metrics(&open.replace(good, bad)).is_err(), "the parser takes `{bad}`");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exemplar_in_a_real_prometheus_names_a_trace_that_the_collector_has() {
    let (host, _sink, collector) = watched("info").await;
    let folder = tempfile::tempdir().unwrap();
    write(&files(&declarations()).unwrap(), folder.path()).unwrap();
    let prometheus = Prometheus::start(folder.path(), host.server.admin_addr()).await;
    play(&host).await;
    let path =
        "/api/v1/query_exemplars?query=infra_game_append_seconds_bucket&start=0&end=9999999999";
    let traces = async || -> Vec<String> {
        let answer = prometheus.get(path).await;
        let series = answer["data"].as_array().unwrap().clone();
        let exemplars = series.iter().flat_map(|one| one["exemplars"].as_array().unwrap());
        exemplars.map(|one| one["labels"]["trace_id"].as_str().unwrap().to_owned()).collect()
    };
    eventually("Prometheus has exemplars", || async { !traces().await.is_empty() }).await;
    let traces = traces().await;
    host.stop().await;
    let told = collector.text();
    assert!(traces.iter().all(|trace| told.contains(trace)), "{traces:?}");
}
