//! Programs of game-server's own that drive it from outside; the product is never linked here.

use crate::shell;

/// Builds an example of game-server in release mode and runs it with the words given.
pub(crate) fn run(example: &str, words: &[String]) -> Result<(), String> {
    let build = ["build", "--release", "--locked", "-p", "game-server", "--bins", "--examples"];
    shell::run(&mut shell::command("cargo", &build))?;
    let folder = shell::target().join("release");
    let program = folder.join("examples").join(example);
    let mut command = shell::command(program, &[]);
    command.args(words).env("GAME_SERVER_BIN", folder.join("game-server"));
    shell::run(&mut command)
}
