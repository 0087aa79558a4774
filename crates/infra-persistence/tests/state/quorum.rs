//! Snapshots in several stores, of which one fails, lags or lies.

use std::{future::ready, num::NonZeroUsize, sync::Arc};

use async_trait::async_trait;
use infra_core::{
    Error, ErrorKind, Result,
    clock::Timestamp,
    codec::Payload,
    durability::Durability,
    id::StreamName,
    lease::Fence,
    snapshot::{Snapshot, SnapshotStore},
    version::Version,
};
use infra_persistence::state::QuorumSnapshots;
use infra_testkit::model::ModelSnapshots;

use crate::stores::stream;

fn of(stores: Vec<Arc<dyn SnapshotStore>>, quorum: usize) -> Arc<dyn SnapshotStore> {
    Arc::new(QuorumSnapshots::new(stores, NonZeroUsize::new(quorum).unwrap()).unwrap())
}

mod three_stores_keep {
    use super::*;

    infra_testkit::snapshot_store_contract!(ready(of(
        (0..3).map(|_| Arc::new(ModelSnapshots::new()) as Arc<dyn SnapshotStore>).collect(),
        2,
    )));
}

/// A store that does nothing right.
#[derive(Debug)]
struct Broken;

#[async_trait]
impl SnapshotStore for Broken {
    async fn put_snapshot(&self, _: Snapshot, _: Durability, _: Option<Fence>) -> Result<()> {
        Err(Error::new(ErrorKind::Unavailable, "put snapshot"))
    }

    async fn latest(&self, _: &StreamName, _: Version) -> Result<Option<Snapshot>> {
        Err(Error::new(ErrorKind::Corrupt, "read snapshot"))
    }

    async fn versions(&self, _: &StreamName) -> Result<Vec<Version>> {
        Err(Error::new(ErrorKind::Unavailable, "list snapshots"))
    }

    async fn prune(&self, _: &StreamName, _: usize) -> Result<usize> {
        Err(Error::new(ErrorKind::Unavailable, "prune snapshots"))
    }
}

fn snapshot(version: u64) -> Snapshot {
    let payload = Payload::raw(version.to_string());
    Snapshot {
        stream: stream("g"),
        version: Version::new(version),
        payload,
        taken: Timestamp::EPOCH,
    }
}

#[tokio::test]
async fn every_combination_of_broken_stores_gives_the_newest_or_says_what_is_wrong() {
    for broken in 0..8_u8 {
        let sound: Arc<dyn SnapshotStore> = Arc::new(ModelSnapshots::new());
        let lagging: Arc<dyn SnapshotStore> = Arc::new(ModelSnapshots::new());
        let other: Arc<dyn SnapshotStore> = Arc::new(ModelSnapshots::new());
        lagging.put_snapshot(snapshot(1), Durability::Durable, None).await.unwrap();
        let stores: Vec<Arc<dyn SnapshotStore>> = [sound, lagging, other]
            .into_iter()
            .enumerate()
            .map(|(place, store)| if broken & (1 << place) == 0 { store } else { Arc::new(Broken) })
            .collect();
        let all = of(stores, 2);
        let n_sound = 3 - broken.count_ones();
        let put = all.put_snapshot(snapshot(2), Durability::Durable, None).await;
        match n_sound {
            2 | 3 => put.unwrap(),
            1 => assert_eq!(put.unwrap_err().kind(), &ErrorKind::Indeterminate),
            _ => assert_eq!(put.unwrap_err().kind(), &ErrorKind::Unavailable),
        }
        let latest = all.latest(&stream("g"), Version::MAX).await;
        if n_sound == 0 {
            assert!(latest.is_err());
            assert!(all.prune(&stream("g"), 1).await.is_err());
            continue;
        }
        assert_eq!(latest.unwrap(), Some(snapshot(2)), "broken {broken:03b}");
        assert_eq!(all.versions(&stream("g")).await.unwrap()[0], Version::new(2));
    }
}

#[tokio::test]
async fn the_newest_wins_although_the_first_store_has_an_older_one() {
    let [first, second] =
        [(); 2].map(|()| Arc::new(ModelSnapshots::new()) as Arc<dyn SnapshotStore>);
    first.put_snapshot(snapshot(3), Durability::Durable, None).await.unwrap();
    second.put_snapshot(snapshot(5), Durability::Durable, None).await.unwrap();
    let all = of(vec![first, second], 1);
    assert_eq!(all.latest(&stream("g"), Version::MAX).await.unwrap(), Some(snapshot(5)));
    assert_eq!(all.latest(&stream("g"), Version::new(4)).await.unwrap(), Some(snapshot(3)));
    assert_eq!(all.versions(&stream("g")).await.unwrap(), [Version::new(5), Version::new(3)]);
}

#[test]
fn more_than_there_are_cannot_be_a_quorum() {
    let refused = QuorumSnapshots::new(vec![Arc::new(Broken)], NonZeroUsize::new(2).unwrap());
    assert_eq!(refused.unwrap_err().kind(), &ErrorKind::Invalid);
}
