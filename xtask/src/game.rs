//! Programs of game-server's own that drive it from outside; the product is never linked here.

use crate::shell;

const CRASH: &str = include_str!("../../crates/game-server/examples/drive/help/crash.txt");
const LOAD: &str = include_str!("../../crates/game-server/examples/drive/help/load.txt");

/// Builds game-server and its example `drive` in release mode and runs a program of that.
pub(crate) fn run(program: &str, words: &[String]) -> Result<(), String> {
    if words.iter().any(|word| word == "--help" || word == "-h") {
        // Nobody waits for a build to be told what there is.
        print!("{}", if program == "crash" { CRASH } else { LOAD });
        return Ok(());
    }
    let build = ["build", "--release", "--locked", "-p", "game-server", "--bins", "--examples"];
    shell::run(&mut shell::command("cargo", &build))?;
    let folder = shell::target().join("release");
    let mut command = shell::command(folder.join("examples/drive"), &[program]);
    command.args(words).env("GAME_SERVER_BIN", folder.join("game-server"));
    shell::run(&mut command)
}
