//! Programs of game-server's own that drive it from outside; the product is never linked here.

use crate::{services, shell, tools};

const CRASH: &str = include_str!("../../crates/game-server/examples/drive/help/crash.txt");
const LOAD: &str = include_str!("../../crates/game-server/examples/drive/help/load.txt");
const CAPACITY: &str = include_str!("../../crates/game-server/examples/drive/help/capacity.txt");
const FAULTS: &str = include_str!("../../crates/game-server/examples/drive/help/faults.txt");
const ROLL: &str = include_str!("../../crates/game-server/examples/drive/help/roll.txt");

/// Builds game-server and its example `drive` in release mode and runs a program of that.
///
/// What hurts foreign servers is built with all of them, which are installed if they are not there.
pub(crate) fn run(program: &str, words: &[String]) -> Result<(), String> {
    if words.iter().any(|word| word == "--help" || word == "-h") {
        // Nobody waits for a build to be told what there is.
        let help = match program {
            "crash" => CRASH,
            "load" => LOAD,
            "capacity" => CAPACITY,
            "faults" => FAULTS,
            _ => ROLL,
        };
        print!("{help}");
        return Ok(());
    }
    tools::need_kill()?;
    let needs_servers = matches!(program, "faults" | "roll");
    let build = ["build", "--release", "--locked", "-p", "game-server", "--bins", "--examples"];
    let mut build = shell::command("cargo", &build);
    if needs_servers {
        services::install()?;
        build.arg("--all-features");
    }
    shell::run(&mut build)?;
    let folder = shell::target().join("release");
    let mut command = shell::command(folder.join("examples/drive"), &[program]);
    command.args(words).env("GAME_SERVER_BIN", folder.join("game-server"));
    if needs_servers {
        command.env("INFRA_TEST_PYTHON", tools::python());
    }
    shell::run(&mut command)
}
