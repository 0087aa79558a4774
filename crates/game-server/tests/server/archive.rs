//! The archive's commands, over files and over a bucket.

use clap::Parser as _;
use game_server::{
    archive::run,
    config::{Cli, Job},
};
use infra_core::{Clock as _, SystemClock, archive::ArchiveStore as _, clock::Timestamp};
use infra_persistence::Archive;

/// Runs a command with words, some days from now, and returns what it printed or said.
async fn say(archive: &str, words: &[&str], days: u64) -> Result<String, String> {
    let line = [&["game-server", "archive", "--archive", archive], words].concat();
    let cli = Cli::try_parse_from(line).map_err(|error| error.to_string())?;
    let Some(Job::Archive(arguments)) = cli.job else { panic!("it is another job") };
    let now = Timestamp::from_millis(SystemClock::shared().wall().as_millis() + days * 86_400_000);
    let mut out = Vec::new();
    let done = run(&arguments, now, &mut out).await;
    let text = String::from_utf8(out).unwrap();
    done.map(|()| text.clone()).map_err(|error| format!("{text}{error}"))
}

/// The names that a list prints.
fn names(printed: &str) -> Vec<&str> {
    printed.lines().map(|line| line.rsplit(' ').next().unwrap()).collect()
}

/// What must hold whatever the archive is made of; `other` is an empty place beside it.
async fn check(objects: &Archive, archive: &str, other: &str) {
    for name in ["games/AB-1.json", "games/AB-2.json", "games-10/x", "dictionaries/d"] {
        objects.create(name, name.to_owned().into()).await.unwrap();
    }
    let all = say(archive, &["list"], 0).await.unwrap();
    assert_eq!(names(&all), ["dictionaries/d", "games-10/x", "games/AB-1.json", "games/AB-2.json"]);
    let games = say(archive, &["list", "--prefix", "games", "--limit", "1"], 0).await.unwrap();
    assert_eq!(names(&games), ["games/AB-1.json"], "no prefix ends within a segment");
    assert!(say(archive, &["list", "--older-than", "1"], 0).await.unwrap().is_empty());
    assert_eq!(say(archive, &["get", "games/AB-1.json"], 0).await.unwrap(), "games/AB-1.json");
    assert!(say(archive, &["get", "games/none"], 0).await.unwrap_err().contains("games/none"));

    let restore = ["restore", "--to", other, "--prefix", "games"];
    let said = say(archive, &restore, 0).await.unwrap();
    assert_eq!(said, "copied 2, already there 0, different 0\n");
    assert_eq!(
        names(&say(other, &["list"], 0).await.unwrap()),
        ["games/AB-1.json", "games/AB-2.json"]
    );
    objects.replace("games/AB-2.json", "changed".into()).await.unwrap();
    let said = say(archive, &restore, 0).await.unwrap_err();
    assert!(said.contains("copied 0, already there 1, different 1"), "{said}");
    assert_eq!(say(other, &["get", "games/AB-2.json"], 0).await.unwrap(), "games/AB-2.json");

    assert!(say(archive, &["purge"], 9).await.unwrap_err().contains("--older-than"));
    assert!(say(archive, &["purge", "--yes"], 9).await.unwrap_err().contains("--older-than"));
    let purge = ["purge", "--older-than", "7", "--prefix", "games"];
    let said = say(archive, &purge, 9).await.unwrap();
    assert!(said.ends_with("would be removed; repeat with --yes: 2 objects, 22 bytes\n"), "{said}");
    assert_eq!(say(archive, &["list"], 0).await.unwrap().lines().count(), 4);
    let early = say(archive, &[&purge[..], &["--yes"]].concat(), 6).await.unwrap();
    assert_eq!(early, "removed 0 objects, 0 bytes\n");
    let said = say(archive, &[&purge[..], &["--yes"]].concat(), 9).await.unwrap();
    assert!(said.ends_with("removed 2 objects, 22 bytes\n"), "{said}");
    let left = say(archive, &["list"], 0).await.unwrap();
    assert_eq!(names(&left), ["dictionaries/d", "games-10/x"]);
}

#[tokio::test]
async fn archived_games_in_files_are_listed_read_copied_back_and_purged() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| format!("file:{}", folder.path().join(name).display());
    let missing = say(&place("archive"), &["list"], 0).await.unwrap_err();
    assert!(missing.contains("there is no folder"), "a typing error makes no archive: {missing}");
    let objects = Archive::in_folder(folder.path().join("archive")).unwrap();
    check(&objects, &place("archive"), &place("other")).await;
    assert!(say("memory:", &["list"], 0).await.is_err());
    let file = folder.path().join("game.json").display().to_string();
    let get = ["get", "games-10/x", "--out", &file];
    assert_eq!(say(&place("archive"), &get, 0).await.unwrap(), "");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "games-10/x");
    let again = say(&place("archive"), &get, 0).await.unwrap_err();
    assert!(again.contains("game.json"), "a file is never written over: {again}");
}

#[cfg(feature = "s3")]
#[tokio::test]
async fn archived_games_in_a_bucket_are_listed_and_restored_by_the_program() {
    use infra_persistence::S3Options;
    use infra_testkit::server::{BUCKET, Kind, Server};
    let server = Server::start(Kind::S3).await.unwrap();
    let url = format!("s3://{BUCKET}/eu?endpoint={}&region=eu-north-1", server.url());
    let options = S3Options::new(BUCKET).prefix("eu").endpoint(server.url());
    let objects = Archive::in_bucket(&options.credentials("any", "secret")).unwrap();
    objects.create("games/AB-1.json", "[]".into()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let to = format!("file:{}", folder.path().join("restored").display());
    let program = |words: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_game-server"));
        command.arg("archive").args(words).env("GAME_SERVER_ARCHIVE", &url);
        command.env("AWS_ACCESS_KEY_ID", "any").env("AWS_SECRET_ACCESS_KEY", "secret");
        let output = command.output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(said).unwrap())
    };
    let (done, listed) = program(&["list"]);
    assert!(done && names(&listed) == ["games/AB-1.json"], "{listed}");
    let (done, said) = program(&["restore", "--to", &to]);
    assert!(done && said == "copied 1, already there 0, different 0\n", "{said}");
    let restored = folder.path().join("restored/games/AB-1.json");
    assert_eq!(std::fs::read_to_string(restored).unwrap(), "[]");
    let (done, said) = program(&["get", "games/none"]);
    assert!(!done && said.contains("games/none"), "{said}");
    let (done, help) = program(&["--help"]);
    for word in ["list", "get", "restore", "purge", "AWS_ACCESS_KEY_ID"] {
        assert!(done && help.contains(word), "{help}");
    }
}
