//! Figures of the process, its runtime and its cgroup.

use std::{path::Path, sync::Arc};

use infra_observability::{
    collect::{Cgroup, Limits, Process, Runtime, Usage},
    exporter::Exporter,
};

use crate::support::sample;

fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// A folder like `/proc` with known figures.
pub fn fake_proc(folder: &Path, cpu_ticks: u64) {
    let status = "Name:\tgame\nVmSize:\t  2048 kB\nVmRSS:\t  1024 kB\nThreads:\t7\n";
    write(folder, "self/status", status);
    let stat = format!("1 (a) b () S 1 1 1 0 -1 0 0 0 0 0 {cpu_ticks} 50 0 0 20 0 7 0 250 0 0 0 0");
    write(folder, "self/stat", &stat);
    write(folder, "self/limits", "Max open files            1024      4096      files\n");
    write(folder, "self/fd/0", "");
    write(folder, "self/fd/1", "");
    write(folder, "stat", "cpu 1 2 3\nbtime 1700000000\n");
}

#[test]
fn the_process_is_read_exactly_from_its_files_and_is_there_on_a_real_kernel() {
    let folder = tempfile::tempdir().unwrap();
    fake_proc(folder.path(), 150);
    let usage = Process::at(folder.path()).usage().unwrap();
    let wanted = Usage {
        cpu_seconds: 2.0,
        resident_bytes: 1_048_576,
        virtual_bytes: 2_097_152,
        threads: 7,
        open_fds: 2,
        max_fds: 1_024,
        started_seconds: 1_700_000_002.5,
    };
    assert_eq!(usage, wanted);
    assert!(0 < Process::default().usage().unwrap().resident_bytes);
    assert_eq!(Process::at("/nowhere").usage(), None);
}

#[test]
fn sample_lines_of_the_process_are_exact() {
    let folder = tempfile::tempdir().unwrap();
    fake_proc(folder.path(), 150);
    let exporter = Exporter::builder().collector(Process::at(folder.path())).build();
    let page = exporter.render();
    for line in [
        "# TYPE process_cpu_seconds_total counter",
        "process_cpu_seconds_total 2",
        "process_resident_memory_bytes 1048576",
        "process_open_fds 2",
        "process_threads 7",
        "process_start_time_seconds 1700000002.5",
    ] {
        assert!(page.lines().any(|is| is == line), "{line} is not in\n{page}");
    }
}

#[test]
fn processor_time_only_grows_and_rises_with_work() {
    let process = Process::default();
    let before = process.usage().unwrap().cpu_seconds;
    let mut spent = before;
    let mut sum = 0_u64;
    while spent < before + 0.05 {
        (0..1_000_000_u64).for_each(|n| sum = sum.wrapping_mul(31).wrapping_add(n));
        let now = process.usage().unwrap().cpu_seconds;
        assert!(spent <= now);
        spent = now;
    }
    assert_ne!(sum, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_of_the_runtime_are_counted_while_they_live() {
    let exporter =
        Exporter::builder().collector(Runtime::of(tokio::runtime::Handle::current())).build();
    let alive = || sample(&exporter, "infra_runtime_alive_tasks").unwrap();
    let before = alive();
    let gate = Arc::new(tokio::sync::Notify::new());
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let gate = gate.clone();
            tokio::spawn(async move { gate.notified().await })
        })
        .collect();
    assert_eq!(alive(), before + 50.0);
    for task in &tasks {
        task.abort();
    }
    for task in tasks {
        assert!(task.await.is_err());
    }
    while before < alive() {
        tokio::task::yield_now().await;
    }
    assert_eq!(sample(&exporter, "infra_runtime_workers"), Some(2.0));
    assert!(0.0 < sample(&exporter, "infra_runtime_busy_seconds_total").unwrap());
}

#[test]
fn threads_of_the_process_are_counted_while_they_live() {
    let process = Process::default();
    let before = process.usage().unwrap().threads;
    let barrier = Arc::new(std::sync::Barrier::new(9));
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let barrier = barrier.clone();
            std::thread::spawn(move || {
                barrier.wait();
                barrier.wait();
            })
        })
        .collect();
    barrier.wait();
    assert_eq!(process.usage().unwrap().threads, before + 8);
    barrier.wait();
    for thread in threads {
        thread.join().unwrap();
    }
    // A thread that was joined may need a moment to leave the kernel's list.
    while before < process.usage().unwrap().threads {
        std::thread::yield_now();
    }
}

/// A folder like a cgroup's with known figures.
pub fn fake_cgroup(folder: &Path, memory: u64, limit: &str) -> Cgroup {
    write(folder, "memory.current", &format!("{memory}\n"));
    write(folder, "memory.max", limit);
    write(folder, "memory.stat", "anon 1\ninactive_file 100\n");
    write(folder, "cpu.max", "150000 100000\n");
    write(folder, "cpu.stat", "usage_usec 2500000\nthrottled_usec 500000\n");
    Cgroup::at(folder)
}

#[test]
fn the_cgroup_says_what_it_allows_and_uses() {
    let folder = tempfile::tempdir().unwrap();
    let cgroup = fake_cgroup(folder.path(), 1_100, "4000");
    let wanted = Limits {
        memory_bytes: 1_000,
        memory_limit: Some(4_000),
        cpus: Some(1.5),
        cpu_seconds: 2.5,
        throttled_seconds: 0.5,
    };
    assert_eq!(cgroup.limits(), Some(wanted));
    assert_eq!(fake_cgroup(folder.path(), 1, "max").limits().unwrap().memory_limit, None);
    assert_eq!(Cgroup::at("/nowhere").limits(), None);
    let exporter = Exporter::builder().collector(cgroup).build();
    assert_eq!(sample(&exporter, "infra_cgroup_cpu_limit"), Some(1.5));
}
