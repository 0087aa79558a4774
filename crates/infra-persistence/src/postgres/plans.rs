//! Every statement is planned over its index, also when there are many documents.
//! `INFRA_PERSISTENCE_DOCUMENTS` sets how many; 100,000 by default.

use std::ops::Bound;

use bytes::Bytes;
use infra_core::{
    id::{Collection, IndexName},
    random::Random,
    store::{Query, Scan},
};
use infra_testkit::server::{Kind, shared};
use sqlx::{AssertSqlSafe, Executor as _, PgConnection, Row as _, pool::PoolConnection};

use super::{
    commit::{DELETE_DOCUMENTS, DELETE_HISTORY, DELETE_TERMS, OTHERS, READ},
    documents::{GET, GET_MANY, HISTORY, PostgresDocuments, find, range},
    options::PostgresOptions,
};

/// Fills the tables as if there were so many rooms, each found by its code and by one of its players.
async fn fill(on: &mut PgConnection, documents: u64) {
    let rows = format!("FROM generate_series(1, {documents}) AS n");
    for statement in [
        format!(
            "INSERT INTO documents SELECT 'rooms', convert_to(lpad(n::text, 9, '0'), 'UTF8'), 1, \
             decode(md5(n::text), 'hex') {rows}"
        ),
        format!(
            "INSERT INTO terms SELECT 'rooms', 'code', decode(md5(n::text), 'hex'), \
             convert_to(lpad(n::text, 9, '0'), 'UTF8'), true {rows}"
        ),
        format!(
            "INSERT INTO terms SELECT 'rooms', 'player', convert_to((n / 100)::text, 'UTF8'), \
             convert_to(lpad(n::text, 9, '0'), 'UTF8'), false {rows}"
        ),
        format!(
            "INSERT INTO history SELECT 'rooms', convert_to(lpad(n::text, 9, '0'), 'UTF8'), 1, \
             decode(md5(n::text), 'hex') {rows}"
        ),
        "ANALYZE documents, terms, history".to_owned(),
        // The plan of any value is looked at, as statements have it that are used again and again.
        "SET plan_cache_mode = force_generic_plan".to_owned(),
    ] {
        on.execute(AssertSqlSafe(statement)).await.unwrap();
    }
}

async fn plan(on: &mut PgConnection, statement: &str) -> String {
    let parameters = (1..100).take_while(|n| statement.contains(&format!("${n}"))).count();
    on.execute(AssertSqlSafe(format!("PREPARE asked AS {statement}"))).await.unwrap();
    let nothing = vec!["NULL"; parameters].join(", ");
    let explain = format!("EXPLAIN EXECUTE asked({nothing})");
    let lines = on.fetch_all(AssertSqlSafe(explain)).await.unwrap();
    on.execute("DEALLOCATE asked").await.unwrap();
    let lines: Vec<String> = lines.iter().map(|line| line.get(0)).collect();
    lines.join("\n")
}

fn statements() -> Vec<String> {
    let (rooms, code) = (Collection::new("rooms").unwrap(), IndexName::new("code").unwrap());
    let scan = |prefix: &'static str, after: Option<&'static str>, is_reverse| {
        let after = after.map(|after| Bytes::from_static(after.as_bytes()));
        let scan = Scan { after, is_reverse, ..Scan::prefix(prefix, 10) };
        range(&rooms, &scan).into_string()
    };
    let query = |after: Option<(&'static str, &'static str)>, is_reverse| {
        let bytes = |text: &'static str| Bytes::from_static(text.as_bytes());
        let after = after.map(|(value, key)| (bytes(value), bytes(key)));
        let (from, to) = (Bound::Included(bytes("1")), Bound::Excluded(bytes("2")));
        let query = Query::equal(code.clone(), "1", 10);
        find(&rooms, &Query { from, to, after, is_reverse, ..query }).into_string()
    };
    let equal = find(&rooms, &Query::equal(code.clone(), "1", 10)).into_string();
    let mut all = vec![equal];
    for is_reverse in [false, true] {
        all.push(scan("", None, is_reverse));
        all.push(scan("00", None, is_reverse));
        all.push(scan("00", Some("0000001"), is_reverse));
        all.push(query(None, is_reverse));
        all.push(query(Some(("1", "1")), is_reverse));
    }
    let fixed = [GET, GET_MANY, HISTORY, READ, OTHERS];
    let fixed = fixed.into_iter().chain([DELETE_TERMS, DELETE_DOCUMENTS, DELETE_HISTORY]);
    all.extend(fixed.map(str::to_owned));
    all
}

#[tokio::test]
async fn each_statement_uses_its_index_at_any_number_of_documents() {
    let documents = std::env::var("INFRA_PERSISTENCE_DOCUMENTS");
    let documents = documents.map_or(100_000, |count| count.parse().unwrap());
    let schema = format!("plans_{:016x}", Random::from_system().next_u64());
    let options = PostgresOptions::new(shared(Kind::Postgres).unwrap()).schema(schema.clone());
    let store = PostgresDocuments::connect(&options.connections(1)).await.unwrap();
    let mut on: PoolConnection<_> = store.pool.acquire().await.unwrap();
    fill(&mut on, documents).await;
    for statement in statements() {
        let plan = plan(&mut on, &statement).await;
        let is_by_index = plan.contains("Index") && !plan.contains("Seq Scan");
        // Sorting the few that were asked for by name is no harm.
        let sorts = plan.contains("Sort") && !statement.contains("ORDINALITY");
        assert!(is_by_index && !sorts, "{statement}\n{plan}");
    }
    on.execute(AssertSqlSafe(format!("DROP SCHEMA {schema} CASCADE"))).await.unwrap();
}
