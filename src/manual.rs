//! Man pages and shell completions, from what a command line says of itself. Packages are made with them.

use std::io;
use std::path::Path;

use clap::Command;
use clap_complete::Shell;

/// Writes a page for the command and each of its subcommands that is not hidden into a folder, named as in `corespan-serve.1`.
///
/// # Errors
/// A folder or a file that cannot be made.
pub fn write_pages(command: Command, folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    clap_mangen::generate_to(command, folder)
}

/// The completions for a shell.
pub fn completions(mut command: Command, shell: Shell) -> Vec<u8> {
    let name = command.get_name().to_owned();
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut text);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Arg;

    #[test]
    fn pages_and_completions_name_what_a_user_may_ask_for_and_nothing_hidden() {
        let command = Command::new("thing")
            .subcommand(Command::new("serve").about("Run it").arg(Arg::new("config").long("config")))
            .subcommand(Command::new("inner").hide(true));
        let folder = std::env::temp_dir().join(format!("corespan-pages-{}", std::process::id()));
        write_pages(command.clone(), &folder).unwrap();
        let mut names: Vec<_> =
            std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(names, ["thing-serve.1", "thing.1"]);
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let text = String::from_utf8(completions(command.clone(), shell)).unwrap();
            assert!(text.contains("serve") && text.contains("config"), "{shell}");
        }
    }
}
