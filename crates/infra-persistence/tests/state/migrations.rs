//! States and events of older schemas, and of newer ones.

use std::sync::Arc;

use infra_core::{
    Clock as _, ErrorKind, Result,
    codec::Payload,
    event::{Append, Direction, Filter, NewEvent},
    id::{EventId, EventType},
    machine::{StateMachine, Upcaster},
    random::Random,
    version::{Expected, Position, Version},
};
use infra_persistence::state::{
    Action, Durable, DurableOptions, Migrations, Persistent, SnapshotCodec, Strategy, Target,
    recover,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::stores::{World, stream};

/// The machine as three versions of a program know it.
macro_rules! account {
    ($name:ident, $version:literal, $($field:ident),+) => {
        #[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        struct $name { $($field: u64),+ }

        impl StateMachine for $name {
            type Command = u64;
            type Event = Paid;
            type Refusal = ();
            const NAME: &'static str = "account";
            const SCHEMA_VERSION: u32 = $version;

            fn decide(&self, cents: u64) -> Result<Vec<Paid>, ()> {
                Ok(vec![Paid { cents }])
            }

            fn evolve(&mut self, paid: &Paid) {
                self.fold(paid.cents);
            }
        }

        impl Persistent for $name {
            fn kind(_: &Paid) -> &'static str {
                "paid"
            }

            fn phase(&self) -> &'static str {
                "open"
            }
        }
    };
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Paid {
    cents: u64,
}

account!(One, 1, balance);
account!(Two, 2, balance, n_payments);
account!(Three, 3, cents, n_payments, largest);

impl One {
    fn fold(&mut self, cents: u64) {
        self.balance += cents;
    }
}

impl Two {
    fn fold(&mut self, cents: u64) {
        self.balance += cents;
        self.n_payments += 1;
    }
}

impl Three {
    fn fold(&mut self, cents: u64) {
        self.cents += cents;
        self.n_payments += 1;
        self.largest = self.largest.max(cents);
    }
}

fn migrations() -> Arc<Migrations> {
    let take = |state: &mut serde_json::Value, field: &str| {
        state.as_object_mut().and_then(|fields| fields.remove(field)).unwrap_or_default()
    };
    let migrations = Migrations::new()
        .step(
            1,
            2,
            |mut state| {
                state["n_payments"] = json!(0);
                Ok(state)
            },
            move |mut state| {
                take(&mut state, "n_payments");
                Ok(state)
            },
        )
        .and_then(|all| {
            all.step(
                2,
                3,
                move |mut state| {
                    state["cents"] = take(&mut state, "balance");
                    state["largest"] = json!(0);
                    Ok(state)
                },
                move |mut state| {
                    state["balance"] = take(&mut state, "cents");
                    take(&mut state, "largest");
                    Ok(state)
                },
            )
        });
    Arc::new(migrations.unwrap())
}

fn snapshot_only(world: &World) -> DurableOptions {
    world.options(Strategy::SnapshotOnly(world.snapshots.clone())).migrations(migrations())
}

#[tokio::test]
async fn a_state_goes_through_the_chain_when_it_is_read() {
    let world = World::new();
    let (mut one, _) = Durable::<One>::open(stream("a"), snapshot_only(&world)).await.unwrap();
    one.execute(&Action::new("pay"), 5).await.unwrap();
    let back = recover::<Two>(&stream("a"), &snapshot_only(&world), Target::Latest).await.unwrap();
    assert_eq!(back.machine, Two { balance: 5, n_payments: 0 });
    let back =
        recover::<Three>(&stream("a"), &snapshot_only(&world), Target::Latest).await.unwrap();
    assert_eq!(back.machine, Three { cents: 5, n_payments: 0, largest: 0 });
    let untouched =
        recover::<One>(&stream("a"), &snapshot_only(&world), Target::Latest).await.unwrap();
    assert_eq!(untouched.machine, One { balance: 5 }, "reading writes nothing");
    let (mut three, _) = Durable::<Three>::open(stream("a"), snapshot_only(&world)).await.unwrap();
    three.execute(&Action::new("pay"), 2).await.unwrap();
    let refused =
        recover::<One>(&stream("a"), &snapshot_only(&world), Target::Latest).await.unwrap_err();
    assert_eq!(refused.kind(), &ErrorKind::Unsupported);
    assert!(refused.to_string().contains("newer version"), "{refused}");
}

#[tokio::test]
async fn an_older_program_refuses_newer_data_before_it_writes() {
    let world = World::new();
    let hybrid = || world.hybrid().migrations(migrations());
    let (mut three, _) = Durable::<Three>::open(stream("a"), hybrid()).await.unwrap();
    three.execute(&Action::new("pay"), 5).await.unwrap();
    let before = world.events.read_all(Position::ZERO, &Filter::default(), 100).await.unwrap();
    let refused = Durable::<One>::open(stream("a"), hybrid()).await.unwrap_err();
    assert_eq!(refused.kind(), &ErrorKind::Unsupported);
    let after = world.events.read_all(Position::ZERO, &Filter::default(), 100).await.unwrap();
    assert_eq!(before, after);
}

#[tokio::test]
async fn there_and_back_again_is_the_same_state() {
    let migrations = migrations();
    for balance in [0, 1, u64::MAX] {
        let first = json!({"balance": balance});
        let third = migrations.migrate(first.clone(), 1, 3).unwrap();
        assert_eq!(migrations.migrate(third.clone(), 3, 1).unwrap(), first);
        assert_eq!(migrations.path(1, 3).unwrap().len(), 2);
    }
}

#[tokio::test]
async fn a_bincode_snapshot_of_an_older_schema_gives_way_to_its_events() {
    let world = World::new();
    let options = world.hybrid().codec(SnapshotCodec::Bincode).migrations(migrations());
    let (mut one, _) = Durable::<One>::open(stream("a"), options.clone()).await.unwrap();
    for cents in [5, 9] {
        one.execute(&Action::new("pay"), cents).await.unwrap();
    }
    one.snapshot().await.unwrap();
    let back = recover::<Three>(&stream("a"), &options, Target::Latest).await.unwrap();
    assert_eq!(back.machine, Three { cents: 14, n_payments: 2, largest: 9 });
    assert_eq!((back.report.snapshot, back.report.skipped.len()), (None, 1));
}

/// Events of schema 1 had euros.
#[derive(Debug)]
struct EurosToCents(EventType);

impl Upcaster for EurosToCents {
    fn event_type(&self) -> &EventType {
        &self.0
    }

    fn reads_version(&self) -> u32 {
        1
    }

    fn upcast(&self, payload: Payload) -> Result<Payload> {
        let old: serde_json::Value = payload.decode()?;
        let cents = old["euros"].as_u64().unwrap_or_default() * 100;
        Payload::json(2, &json!({ "cents": cents }))
    }
}

#[tokio::test]
async fn old_events_are_raised_step_by_step() {
    let world = World::new();
    let random = Random::seeded(8);
    let event = |schema, body| {
        let id = EventId::generate(world.clock.wall(), &random);
        NewEvent::new(id, EventType::new("paid").unwrap(), Payload::json(schema, &body).unwrap())
    };
    let events = vec![
        event(1, json!({"euros": 3})),
        event(2, json!({"cents": 4})),
        event(3, json!({"cents": 5})),
    ];
    world.events.append(Append::to(stream("a"), Expected::Absent, events)).await.unwrap();
    let upcaster = Arc::new(EurosToCents(EventType::new("paid").unwrap()));
    let migrations = Migrations::new().upcaster(upcaster.clone()).unwrap();
    assert!(migrations.clone().upcaster(upcaster).is_err(), "one for each type and version");
    let options = world.hybrid().migrations(Arc::new(migrations));
    let back = recover::<Three>(&stream("a"), &options, Target::Latest).await.unwrap();
    assert_eq!(back.machine, Three { cents: 309, n_payments: 3, largest: 300 });
    let without =
        recover::<Three>(&stream("a"), &world.hybrid(), Target::Latest).await.unwrap_err();
    assert_eq!(without.kind(), &ErrorKind::Corrupt);
    assert!(without.to_string().contains("event 1 of `a`"), "{without}");
    let left = world
        .events
        .read_stream(&stream("a"), Version::new(1), Direction::Forward, 1)
        .await
        .unwrap();
    assert_eq!(left[0].event.payload.schema, 1, "what is stored stays as it was");
}

#[tokio::test]
async fn a_state_without_a_way_here_is_refused_and_one_of_another_machine_too() {
    let world = World::new();
    let options = world.options(Strategy::SnapshotOnly(world.snapshots.clone()));
    let (mut one, _) = Durable::<One>::open(stream("a"), options.clone()).await.unwrap();
    one.execute(&Action::new("pay"), 5).await.unwrap();
    let refused = recover::<Three>(&stream("a"), &options, Target::Latest).await.unwrap_err();
    assert!(refused.to_string().contains("no migration leads from schema 1 to 3"), "{refused}");
    let other =
        recover::<crate::game::Game>(&stream("a"), &options, Target::Latest).await.unwrap_err();
    assert!(other.to_string().contains("it is of a `account`, not of a `game`"), "{other}");
}
