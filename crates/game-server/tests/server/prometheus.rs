//! A real Prometheus scrapes the server under load and answers every query with data.

use std::{
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
    play::play_on,
    raw,
    support::{act, start},
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
