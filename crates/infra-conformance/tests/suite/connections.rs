//! The gauge of connections, held against the hub while real clients come and go in any order.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use infra_core::{SystemClock, lifecycle::Shutdown, random::Random};
use infra_observability::exporter::Exporter;
use infra_ws::{
    App, Class, Close, Connection, Frame, Hub, Inbound, Options, OriginPolicy,
    client::{Client, Received},
    serve,
};
use tokio::net::{TcpListener, TcpStream};

const PATIENCE: Duration = Duration::from_secs(30);

/// Takes everybody, as the one user there is, and listens.
#[derive(Debug)]
struct Listening;

#[async_trait]
impl App for Listening {
    type Session = ();

    async fn open(&self, connection: Connection) -> Result<(), Close> {
        connection.identify("ann").map_err(|_| Close::OVERLOADED)?;
        connection.send(Frame::text(connection.id().to_string()), Class::Durable);
        Ok(())
    }

    async fn message(&self, _session: &mut (), message: Inbound) -> Result<(), Close> {
        match message {
            Inbound::Text(text) if text.as_str() == "out" => Err(Close::POLICY),
            Inbound::Text(_) | Inbound::Binary(_) => Ok(()),
        }
    }

    async fn closed(&self, _session: ()) {}
}

fn gauge(exporter: &Exporter) -> Option<usize> {
    let page = exporter.render();
    page.lines().find_map(|line| line.strip_prefix("infra_ws_connections ")?.parse().ok())
}

/// Waits until as many are counted by the hub, and by whoever scrapes.
async fn settles(hub: &Hub, exporter: &Exporter, wanted: usize) {
    let counted = || (hub.connections().len(), hub.count(), gauge(exporter));
    let settled = async {
        while counted() != (wanted, wanted, Some(wanted)) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, settled).await;
    assert!(in_time.is_ok(), "{:?}, {wanted} are there", counted());
}

/// A client, and what the hub calls its connection.
struct Known {
    id: String,
    client: Client,
}

async fn connected(url: &str) -> Known {
    let mut client = Client::connect(url, &[]).await.unwrap();
    let Received::Text(id) = client.receive(PATIENCE).await.unwrap() else { panic!("no id") };
    Known { id, client }
}

/// One connection is ended twice by the server, and once more by its client.
async fn ended_twice(hub: &Hub, mut known: Known) {
    let connections = hub.connections();
    let ended = connections.iter().find(|one| one.id().to_string() == known.id).unwrap();
    ended.close(Close::NORMAL);
    ended.shed(Close::REVOKED);
    assert!(matches!(known.client.receive(PATIENCE).await.unwrap(), Received::Closed(_)));
    known.client.close(PATIENCE).await;
}

#[tokio::test]
async fn the_gauge_is_what_the_hub_holds_whoever_ends_a_connection_and_however() {
    let exporter = Exporter::new(infra_ws::METRICS);
    let _recorder = metrics::set_default_local_recorder(&exporter);
    let options = Options::new(OriginPolicy::same_host());
    let hub = Hub::new(options, SystemClock::shared(), Shutdown::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, Arc::clone(&hub), Arc::new(Listening)));
    let (url, random) = (format!("ws://{address}/"), Random::seeded(11));
    let mut clients: Vec<Known> = Vec::new();
    for _ in 0..120 {
        let step = random.next_u64() % 9;
        if clients.is_empty() || (4 < step && clients.len() < 12) {
            clients.push(connected(&url).await);
            settles(&hub, &exporter, clients.len()).await;
            continue;
        }
        // Anybody, not the one who came first.
        let place = usize::try_from(random.next_u64() % 1_000).unwrap() % clients.len();
        match step {
            0 => clients.swap_remove(place).client.close(PATIENCE).await,
            // The socket is gone without a word.
            1 => drop(clients.swap_remove(place)),
            2 => clients.swap_remove(place).client.send("out").await.unwrap(),
            3 => ended_twice(&hub, clients.swap_remove(place)).await,
            // Somebody who never says what he wants.
            _ => drop(TcpStream::connect(address).await.unwrap()),
        }
        settles(&hub, &exporter, clients.len()).await;
    }
    assert!(!clients.is_empty());
    assert_eq!(hub.revoke("ann", &Close::REVOKED), clients.len());
    drop(clients);
    settles(&hub, &exporter, 0).await;
}
