//! Documents of other schemas, forward, back and dry, on golden files.

use super::*;

fn migrations() -> Migrations {
    Migrations::new()
        .step(
            1,
            |mut body| {
                let won = body.as_object_mut().and_then(|fields| fields.remove("won"));
                body["wins"] =
                    json!({ "all": won.ok_or_else(|| Error::invalid("step", "no field won"))? });
                Ok(body)
            },
            |mut body| {
                let wins = body.as_object_mut().and_then(|fields| fields.remove("wins"));
                body["won"] = wins.map_or(Value::Null, |wins| wins["all"].clone());
                Ok(body)
            },
        )
        .step(
            2,
            |mut body| {
                body["tags"] = json!([]);
                Ok(body)
            },
            |mut body| {
                body.as_object_mut().map(|fields| fields.remove("tags"));
                Ok(body)
            },
        )
}

#[tokio::test]
async fn documents_go_forward_and_back_as_the_golden_files_have_them_and_a_dry_run_writes_nothing()
{
    let golden = [
        include_str!("../fixtures/player-1.json"),
        include_str!("../fixtures/player-2.json"),
        include_str!("../fixtures/player-3.json"),
    ];
    let payload = |schema: u32| {
        let body: Value = serde_json::from_str(golden[schema as usize - 1]).unwrap();
        Payload::json(schema, &body).unwrap()
    };
    for (from, to) in [(1, 2), (1, 3), (2, 3), (3, 2), (3, 1), (2, 1), (2, 2)] {
        assert_eq!(migrations().bring(&payload(from), to).unwrap(), payload(to), "{from} to {to}");
    }
    assert_eq!(*migrations().bring(&payload(3), 4).unwrap_err().kind(), ErrorKind::Unsupported);
    let store = memory(SystemClock::shared()).unwrap();
    let players = Collection::new("players").unwrap();
    for number in 0..450 {
        let put = Batch::new().put(
            players.clone(),
            format!("{number:03}"),
            Expected::Any,
            payload(1 + number % 3),
        );
        store.commit(put).await.unwrap();
    }
    let bad = Payload::json(1, &json!({ "name": "Bob" })).unwrap();
    store
        .commit(Batch::new().put(players.clone(), "bad", Expected::Any, bad.clone()))
        .await
        .unwrap();
    let before = store.scan(&players, Scan::prefix("", 999)).await.unwrap();
    let dry = migrations().run(&store, &players, 3, Run::Dry).await.unwrap();
    assert_eq!((dry.changed, dry.same, dry.n_failed), (300, 150, 1));
    assert!(dry.failed[0].0 == "bad" && dry.failed[0].1.contains("no field won"), "{dry:?}");
    assert_eq!(store.scan(&players, Scan::prefix("", 999)).await.unwrap(), before);
    let real = migrations().run(&store, &players, 3, Run::Write).await.unwrap();
    assert_eq!(real, dry);
    let again = migrations().run(&store, &players, 3, Run::Write).await.unwrap();
    assert_eq!((again.changed, again.same, again.n_failed), (0, 450, 1));
    let back = migrations().run(&store, &players, 1, Run::Write).await.unwrap();
    assert_eq!((back.changed, back.same), (450, 1));
    for found in store.scan(&players, Scan::prefix("0", 999)).await.unwrap() {
        assert_eq!(found.payload, payload(1));
    }
    assert_eq!(store.get(&players, b"bad").await.unwrap().unwrap().payload, bad);
}
