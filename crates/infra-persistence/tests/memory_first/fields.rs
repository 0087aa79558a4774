//! Filters and orders over fields, against an evaluation of its own.

use super::*;

fn bodies() -> impl Strategy<Value = Vec<Value>> {
    let field = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3..3_i64).prop_map(Value::from),
        (-3..3_i32).prop_map(|number| json!(f64::from(number) + 0.5)),
        "[ab]{0,2}".prop_map(Value::from),
        proptest::collection::vec(0..3_i64, 0..3).prop_map(Value::from),
    ];
    let body = (proptest::option::of(field.clone()), proptest::option::of(field), 0..4_i64)
        .prop_map(|(a, nested, group)| {
            let mut body = json!({ "group": group, "deep": {} });
            if let Some(a) = a {
                body["a"] = a;
            }
            if let Some(nested) = nested {
                body["deep"]["b"] = nested;
            }
            body
        });
    proptest::collection::vec(body, 0..20)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn questions_are_answered_as_a_naive_loop_would_with_an_index_or_without(
        bodies in bodies(),
        (group, offset, limit, is_descending) in (0..4_i64, 0..4_usize, 0..8_usize, any::<bool>()),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store: Arc<dyn DocumentStore> = Arc::new(ModelDocuments::new(SystemClock::shared()));
            let (collection, index) = (Collection::new("c").unwrap(), IndexName::new("group").unwrap());
            for (number, body) in bodies.iter().enumerate() {
                store.commit(Batch::new().write(Write::Put {
                    collection: collection.clone(),
                    key: format!("{number:03}").into(),
                    expected: Expected::Absent,
                    payload: Payload::json(1, body).unwrap(),
                    terms: vec![Term::new(index.clone(), ordered(body["group"].as_i64().unwrap()))],
                })).await.unwrap();
            }
            let filter = Filter::equals("group", group);
            let mut wanted: Vec<(usize, &Value)> = bodies.iter().enumerate()
                .filter(|(_, body)| body["group"] == json!(group)).collect();
            prop_assert_eq!(store.count_where(&collection, &filter).await.unwrap(), wanted.len() as u64);
            wanted.sort_by(|(_, one), (_, other)| {
                let order = infra_persistence::compare(one["deep"].get("b"), other["deep"].get("b"));
                if is_descending { order.reverse() } else { order }
            });
            let wanted: Vec<String> = wanted.iter().skip(offset).take(limit)
                .map(|(number, _)| format!("{number:03}")).collect();
            let select = Select::new(filter, limit).sort("deep.b", is_descending).offset(offset);
            let indexed = select.clone().within(Query::equal(index, ordered(group), 0));
            for select in [select, indexed] {
                let found = store.select(&collection, &select).await.unwrap();
                let found: Vec<_> = found.iter().map(|d| String::from_utf8(d.key.to_vec()).unwrap()).collect();
                prop_assert_eq!(&found, &wanted);
            }
            // Any value is below, equal to or above any other, and only one of them.
            let pivot = json!(0);
            let between = |from, to| Filter::Between("a".to_owned(), from, to);
            let parts = [
                between(Unbounded, Excluded(pivot.clone())),
                between(Included(pivot.clone()), Included(pivot.clone())),
                between(Excluded(pivot), Unbounded),
                Filter::Not(Box::new(Filter::Has("a".to_owned()))),
            ];
            let mut total = 0;
            for part in &parts {
                total += store.count_where(&collection, part).await.unwrap();
            }
            prop_assert_eq!(total, bodies.len() as u64);
            let either = store.count_where(&collection, &Filter::Either(parts.to_vec())).await.unwrap();
            let all = store.count_where(&collection, &Filter::All(parts.to_vec())).await.unwrap();
            prop_assert_eq!((either, all), (bodies.len() as u64, 0));
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn the_example_of_names_and_values_is_answered_right() {
    let store: Arc<dyn DocumentStore> = Arc::new(memory(SystemClock::shared()).unwrap());
    let things = Collection::new("things").unwrap();
    for number in 0..10 {
        let body = json!({ "name": format!("test{}", number % 3), "value": number * 10, "list": [number] });
        let put = Batch::new().put(
            things.clone(),
            number.to_string(),
            Expected::Absent,
            Payload::json(1, &body).unwrap(),
        );
        store.commit(put).await.unwrap();
    }
    let named = |name: &str| Filter::equals("name", name);
    let found = store.select(&things, &Select::new(named("test1"), 99)).await.unwrap();
    let keys: Vec<_> = found.iter().map(|found| &found.key[..]).collect();
    assert_eq!(keys, [b"1", b"4", b"7"]);
    assert_eq!(store.count_where(&things, &named("test0")).await.unwrap(), 4);
    let best = Select::new(Filter::Any, 3).sort("value", true);
    let found = store.select(&things, &best).await.unwrap();
    let values: Vec<_> =
        found.iter().map(|found| found.decode::<Value>().unwrap()["value"].clone()).collect();
    assert_eq!(values, [90, 80, 70]);
    assert!(store.select(&things, &Select::new(Filter::Any, 0)).await.unwrap().is_empty());
    assert_eq!(store.count_where(&things, &Filter::equals("list.0", 4)).await.unwrap(), 1);
    let raw = Batch::new().put(things.clone(), "raw", Expected::Any, Payload::raw("x"));
    store.commit(raw).await.unwrap();
    let refused = store.count_where(&things, &Filter::Any).await.unwrap_err();
    assert_eq!(*refused.kind(), ErrorKind::Unsupported);
}
