//! Stores and repositories from configuration values.

use super::*;

#[tokio::test]
async fn presets_hold_their_limits_and_say_where_things_are_after_a_restart() {
    let limits = [Preset::Room, Preset::Game, Preset::PlayerStatistics, Preset::Connection]
        .map(|preset| preset.config().entries);
    assert_eq!(limits, [10_000, 1_000, 50_000, 100_000]);
    let folder = tempfile::tempdir().unwrap();
    let config = json!({
        "backend": "embedded",
        "folder": folder.path().join("documents"),
        "archive": folder.path().join("archive"),
    });
    let config: StorageConfig = serde_json::from_value(config).unwrap();
    for start in 0..2 {
        let opened = Factory::new().open(&config).await.unwrap();
        assert_eq!(opened.checks().len(), 1);
        let (games, archivist) = opened.hybrid::<Account>(Preset::Game.config()).await.unwrap();
        if start == 0 {
            for number in 0..1_001 {
                games
                    .save(account(&number.to_string(), number, 0), Expected::Absent)
                    .await
                    .unwrap();
            }
            games.save(account("over", 1, 1), Expected::Absent).await.unwrap();
            assert_eq!(games.usage().entries, 1_000);
            assert_eq!(archivist.run_due().await, 1);
        }
        assert_eq!(games.lifecycle().await.unwrap().archived, 1);
        assert_eq!(games.get(b"7").await.unwrap().unwrap().entity.balance, 7);
        assert_eq!(games.get(b"over").await.unwrap().unwrap().entity.balance, 1);
        opened.close().await;
    }
}

#[tokio::test]
async fn a_custom_limit_is_in_force_and_what_contradicts_itself_is_refused() {
    let opened = Factory::new().open(&StorageConfig::Memory {}).await.unwrap();
    let custom = RepositoryConfig { strategy: Kept::MemoryFirst, entries: 50, idle_seconds: None };
    let repository: Repository<Account> = opened.repository(custom).unwrap();
    for number in 0..51 {
        save(&repository, account(&number.to_string(), number, 0)).await;
    }
    let usage = repository.usage();
    assert_eq!((usage.entries, usage.evicted, repository.count().await.unwrap()), (50, 1, 51));
    let refuse = |config| {
        let said = opened.repository::<Account>(config).map(|_| ());
        assert_eq!(said.map_err(|error| error.kind().clone()), Err(ErrorKind::Invalid));
    };
    refuse(RepositoryConfig { entries: 0, ..custom });
    refuse(RepositoryConfig { strategy: Kept::Hybrid, ..custom });
    refuse(RepositoryConfig { idle_seconds: Some(5), ..custom });
    let folder = tempfile::tempdir().unwrap().keep();
    let embedded = |archive| StorageConfig::Embedded { folder: folder.clone(), archive };
    let same = Factory::new().open(&embedded(Some(folder.display().to_string()))).await;
    assert_eq!(*same.unwrap_err().kind(), ErrorKind::Invalid);
    let without = Factory::new().open(&embedded(None)).await.unwrap();
    let hybrid = RepositoryConfig { strategy: Kept::Hybrid, ..custom };
    let said = without.hybrid::<Account>(hybrid).await.map(|_| ());
    assert_eq!(*said.unwrap_err().kind(), ErrorKind::Invalid);
    assert!(serde_json::from_value::<StorageConfig>(json!({ "backend": "redis" })).is_err());
    assert!(
        serde_json::from_value::<StorageConfig>(json!({ "backend": "memory", "folder": "x" }))
            .is_err()
    );
}

#[tokio::test]
async fn a_backend_of_ones_own_is_registered_by_name_and_used() {
    let mut factory = Factory::new();
    let store = Counting::new();
    let own = Arc::clone(&store);
    let make = move || -> infra_persistence::Opening {
        let documents: Arc<dyn DocumentStore> = Arc::<Counting>::clone(&own);
        Box::pin(async move { Ok(Backends { documents, archive: None, checks: Vec::new() }) })
    };
    factory.register("mine", make.clone()).unwrap();
    for taken in ["mine", "memory", ""] {
        let said = factory.register(taken, make.clone()).unwrap_err();
        assert_eq!(*said.kind(), ErrorKind::Invalid);
    }
    let named = |name: &str| StorageConfig::Registered { name: name.to_owned() };
    let unknown = factory.open(&named("other")).await.unwrap_err();
    assert_eq!(*unknown.kind(), ErrorKind::Unsupported);
    let opened = factory.open(&named("mine")).await.unwrap();
    let repository: Repository<Account> = opened.repository(Preset::Room.config()).unwrap();
    assert_eq!(balance(&repository, "none").await, None);
    assert_eq!(store.reads(), 1);
}
