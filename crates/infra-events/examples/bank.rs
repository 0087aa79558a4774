//! A bank in event streams: accounts as aggregates, and a transfer that is one atomic append.
//!
//! `cargo run -p infra-events --example bank`

use std::sync::Arc;

use infra_core::{
    Clock as _, Error, Result, SystemClock,
    codec::Payload,
    event::{Append, EventStore, NewEvent, RecordedEvent},
    id::{EventId, EventType, StreamName},
    machine::{DomainEvent, StateMachine},
    random::Random,
    version::Expected,
};
use infra_events::{
    MemoryEventStore,
    projection::{Inline, Projecting, Projection},
    sourcing::{Execution, Repository, given},
};
use serde::{Deserialize, Serialize};

/// An account: what is in it.
#[derive(Debug, Clone, Default)]
struct Account {
    balance: i64,
}

#[derive(Debug, Clone)]
enum Command {
    Deposit(i64),
    Withdraw(i64),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Moved {
    Deposited(i64),
    Withdrawn(i64),
}

#[derive(Debug, PartialEq)]
struct NotEnough {
    balance: i64,
}

impl DomainEvent for Moved {
    fn name(&self) -> &'static str {
        match self {
            Self::Deposited(_) => "deposited",
            Self::Withdrawn(_) => "withdrawn",
        }
    }
}

impl StateMachine for Account {
    type Command = Command;
    type Event = Moved;
    type Refusal = NotEnough;
    const NAME: &'static str = "account";
    const SCHEMA_VERSION: u32 = 1;

    fn decide(&self, command: Command) -> Result<Vec<Moved>, NotEnough> {
        match command {
            Command::Deposit(amount) => Ok(vec![Moved::Deposited(amount)]),
            Command::Withdraw(amount) if self.balance < amount => {
                Err(NotEnough { balance: self.balance })
            }
            Command::Withdraw(amount) => Ok(vec![Moved::Withdrawn(amount)]),
        }
    }

    fn evolve(&mut self, event: &Moved) {
        match event {
            Moved::Deposited(amount) => self.balance += amount,
            Moved::Withdrawn(amount) => self.balance -= amount,
        }
    }
}

/// All the money there is, which no transfer changes.
#[derive(Debug)]
struct Total;

impl Projection for Total {
    type View = i64;

    fn name(&self) -> &'static str {
        "total"
    }

    fn keys(&self, _event: &RecordedEvent) -> Vec<String> {
        vec!["bank".to_owned()]
    }

    fn apply(&self, _key: &str, view: &mut i64, event: &RecordedEvent) -> Result<()> {
        match event.event.payload.decode()? {
            Moved::Deposited(amount) => *view += amount,
            Moved::Withdrawn(amount) => *view -= amount,
        }
        Ok(())
    }
}

/// Moves money between two accounts: both streams change, or neither does.
async fn transfer(
    store: &dyn EventStore,
    accounts: &Repository<Account>,
    (from, to): (&StreamName, &StreamName),
    amount: i64,
) -> Result<()> {
    let payer = accounts.load(from).await?;
    let decided = payer.state().decide(Command::Withdraw(amount));
    let withdrawn =
        decided.map_err(|refusal| Error::invalid("transfer", format!("{refusal:?}")))?;
    let (clock, random) = (SystemClock::new(), Random::from_system());
    let stored = |event: &Moved| {
        let id = EventId::generate(clock.wall(), &random);
        Ok(NewEvent::new(id, EventType::new(event.name())?, Payload::json(1, event)?))
    };
    let taken = withdrawn.iter().map(stored).collect::<Result<Vec<_>>>()?;
    let given = vec![stored(&Moved::Deposited(amount))?];
    // The payer's version is checked, so nobody spends the same money twice meanwhile.
    let append = Append::to(from.clone(), Expected::Exactly(payer.version()), taken).and(
        to.clone(),
        Expected::Any,
        given,
    );
    store.append(append).await.map(|_| ())
}

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "it is an example")]
async fn main() -> Result<()> {
    // The machine alone, without a store.
    given::<Account>([Moved::Deposited(5)])
        .when(Command::Withdraw(7))
        .then_refused(&NotEnough { balance: 5 });

    let total = Arc::new(Inline::new(Total));
    let events = Arc::new(MemoryEventStore::new(SystemClock::shared()));
    let store = Arc::new(Projecting::new(events).with(Arc::clone(&total)).await?);
    let accounts =
        Repository::<Account>::new(Arc::<Projecting>::clone(&store), SystemClock::shared());
    let (ann, bob) = (StreamName::new("account-ann")?, StreamName::new("account-bob")?);

    accounts.execute(&ann, Command::Deposit(100)).await?;
    transfer(store.as_ref(), &accounts, (&ann, &bob), 30).await?;
    if let Execution::Refused(refusal) = accounts.execute(&bob, Command::Withdraw(31)).await? {
        println!("refused: {refusal:?}");
    }
    for name in [&ann, &bob] {
        println!("{name}: {}", accounts.load(name).await?.state().balance);
    }
    println!("in the bank: {}", total.view("bank"));
    Ok(())
}
