//! Committed changes on their way to clients.

use std::sync::Arc;

use infra_core::{
    SystemClock,
    codec::Payload,
    event::{Append, EventStore, Filter, NewEvent, RecordedEvent},
    id::{EventId, EventType, StreamName},
    random::Random,
    version::{Expected, Position, Version},
};
use infra_testkit::model::ModelEvents;
use infra_ws::changes::{Announcement, Announcer, Change, ChangeKind};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::support::Server;

/// Everything that can happen to a stored room.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Stored {
    Saved { code: String },
    Dealt { hands: Value },
    Closed,
    Audited,
}

/// The table: each event has its line, and the compiler sees that none is left out.
fn table(event: &RecordedEvent) -> Vec<Announcement> {
    let Ok(stored) = event.event.payload.decode::<Stored>() else { return Vec::new() };
    let change = |kind, data: Value| {
        let change =
            Change { entity: "room".to_owned(), id: event.stream.as_str().to_owned(), kind };
        let mut data = data;
        data["type"] = json!("repository_change");
        data["event"] = json!(change);
        vec![Announcement { room: "rooms".to_owned(), data }]
    };
    match stored {
        Stored::Saved { code } if event.version == Version::new(1) => {
            change(ChangeKind::Created, json!({"code": code}))
        }
        Stored::Saved { code } => change(ChangeKind::Updated, json!({"code": code})),
        Stored::Dealt { hands } => change(ChangeKind::Updated, json!({"hands": hands})),
        Stored::Closed => change(ChangeKind::Deleted, json!({})),
        Stored::Audited => Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn committed_changes_reach_those_who_listen_each_as_they_may_see_it() {
    let server = Server::start().await;
    let store: Arc<dyn EventStore> = Arc::new(ModelEvents::new(SystemClock::shared()));
    let random = Random::seeded(1);
    let append = async |expected, stored: &Stored| {
        let id = EventId::generate(infra_core::clock::Timestamp::EPOCH, &random);
        let payload = Payload::json(1, stored).unwrap();
        let event = NewEvent::new(id, EventType::new("room").unwrap(), payload);
        let stream = StreamName::new("room-1").unwrap();
        store.append(Append::to(stream, expected, vec![event])).await
    };
    let (mut ann, _) = server.in_room("ann", "rooms").await;
    let (mut bob, _) = server.in_room("bob", "rooms").await;
    let (rooms, following) = (server.rooms.clone(), Arc::clone(&store));
    let announcing = tokio::spawn(async move {
        let announcer = Announcer::new(following, Filter::default(), table);
        announcer.run(&rooms, Position::ZERO).await
    });
    let saved = Stored::Saved { code: "ABC123".to_owned() };
    append(Expected::Absent, &saved).await.unwrap();
    // What is not committed is never announced.
    append(Expected::Absent, &saved).await.unwrap_err();
    append(Expected::Any, &Stored::Audited).await.unwrap();
    append(Expected::Any, &saved).await.unwrap();
    let hands = json!({"ann": [1], "bob": [2]});
    append(Expected::Any, &Stored::Dealt { hands }).await.unwrap();
    append(Expected::Any, &Stored::Closed).await.unwrap();

    for (player, card) in [(&mut ann, 1), (&mut bob, 2)] {
        let events = player.events(4).await;
        let first = &events[0].1;
        assert_eq!(first["type"], "repository_change");
        let wanted = json!({"entity": "room", "id": "room-1", "kind": "created"});
        assert_eq!((&first["event"], &first["code"]), (&wanted, &json!("ABC123")));
        assert_eq!(events[1].1["event"]["kind"], "updated");
        assert_eq!(events[2].1, json!({"hand": [card]}), "nobody sees another hand");
        assert_eq!(events[3].1["event"]["kind"], "deleted");
    }
    announcing.abort();
}
