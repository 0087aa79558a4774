//! A machine that survives, goes back in time and draws itself:
//! `cargo run -p infra-persistence --example durable_machine`.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::sync::Arc;

use infra_core::{
    Result, SystemClock, event::EventStore, id::StreamName, machine::StateMachine, version::Version,
};
use infra_persistence::{
    Snapshots, memory,
    state::{
        Action, Diagram, Durable, DurableOptions, Edge, Outcome, Persistent, Refusals, Strategy,
        Target, TransitionQuery, TransitionStatistics, recover, transitions,
    },
};
use infra_testkit::model::ModelEvents;
use serde::{Deserialize, Serialize};

/// An order: placed, paid, sent.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Order {
    items: u32,
    is_paid: bool,
    is_sent: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
enum Happened {
    Placed { items: u32 },
    Paid,
    Sent,
}

impl StateMachine for Order {
    type Command = Happened;
    type Event = Happened;
    type Refusal = &'static str;
    const NAME: &'static str = "order";
    const SCHEMA_VERSION: u32 = 1;

    fn decide(&self, command: Happened) -> Result<Vec<Happened>, &'static str> {
        match (self.phase(), &command) {
            ("empty", Happened::Placed { .. })
            | ("placed", Happened::Paid)
            | ("paid", Happened::Sent) => Ok(vec![command]),
            _ => Err("not now"),
        }
    }

    fn evolve(&mut self, event: &Happened) {
        match event {
            Happened::Placed { items } => self.items = *items,
            Happened::Paid => self.is_paid = true,
            Happened::Sent => self.is_sent = true,
        }
    }
}

impl Persistent for Order {
    const EDGES: &'static [Edge] = &[
        Edge::new("empty", "placed", "placed"),
        Edge::new("placed", "paid", "paid"),
        Edge::new("paid", "sent", "sent"),
    ];

    fn kind(event: &Happened) -> &'static str {
        match event {
            Happened::Placed { .. } => "placed",
            Happened::Paid => "paid",
            Happened::Sent => "sent",
        }
    }

    fn phase(&self) -> &'static str {
        match self {
            Self { is_sent: true, .. } => "sent",
            Self { is_paid: true, .. } => "paid",
            Self { items: 0, .. } => "empty",
            Self { .. } => "placed",
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let clock = SystemClock::shared();
    let events: Arc<dyn EventStore> = Arc::new(ModelEvents::new(Arc::clone(&clock)));
    let snapshots = Arc::new(Snapshots::new(Arc::new(memory(Arc::clone(&clock))?))?);
    let strategy = Strategy::Hybrid { events: Arc::clone(&events), snapshots };
    let options = DurableOptions::new(strategy, clock).refusals(Refusals::Record);
    let name = StreamName::new("order-7")?;

    let (mut order, _) = Durable::<Order>::open(name.clone(), options.clone()).await?;
    order.execute(&Action::new("place").by("ann"), Happened::Placed { items: 3 }).await?;
    order.execute(&Action::new("pay").by("ann"), Happened::Paid).await?;
    order.snapshot().await?;
    let refused = order.execute(&Action::new("pay").by("ann"), Happened::Paid).await?;
    println!("paying twice: {}", matches!(refused, Outcome::Refused("not now")));
    order.execute(&Action::new("send"), Happened::Sent).await?;
    // The process ends here; the next one finds the snapshot and what came after it.
    drop(order);

    let (order, report) = Durable::<Order>::open(name.clone(), options.clone()).await?;
    println!(
        "{:?}, by the snapshot of {:?} and {} events",
        order.state(),
        report.snapshot,
        report.replayed
    );
    for target in [Target::Version(Version::new(1)), Target::BeforeLastError] {
        let then = recover::<Order>(&name, &options, target).await?;
        println!("{target:?}: {}", then.machine.phase());
    }
    let log = transitions(&*events, &name, &TransitionQuery::oldest(10)).await?.transitions;
    for step in &log {
        println!(
            "{} {} -> {} by {:?} {:?}",
            step.action, step.from, step.to, step.actor, step.error
        );
    }
    let statistics: TransitionStatistics = log.iter().collect();
    print!("{}", Diagram::of::<Order>().counted(&statistics).mermaid());
    Ok(())
}
