//! A scenario file: roles, each a tool of this program, and the server that they load.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Command;
use clap::error::ErrorKind;
use toml::{Table, Value};

use super::super::tools::ToolFailed;
use super::super::tools::pattern::Pattern;

/// Servers under test in one scenario: what is tested, and what it is measured against in the same seconds.
const SERVERS: [&str; 2] = ["server", "control"];
/// Options that the scenario gives to every role itself.
const OWN: [&str; 6] = ["cued", "expect", "log", "report", "seconds", "warm-up-seconds"];

/// What a role does in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Is there before all others, and ends when all that was sent has arrived.
    Subscriber,
    /// Sends from the cue on.
    Sender,
    /// Another tool: begins with the senders, and is in no account of records.
    Other,
}

/// One process of a round.
#[derive(Clone, Debug)]
pub struct Role {
    pub name: String,
    pub tool: String,
    pub part: Part,
    /// Of which server its deliveries are.
    pub server: &'static str,
    /// As on a command line, behind the tool's name.
    pub arguments: Vec<String>,
    pub connections: u64,
    subject: Option<Pattern>,
    /// How long it may take until it is ready.
    pub ready_time: Duration,
}

impl Role {
    /// The subject of each connection.
    pub fn subjects(&self) -> impl Iterator<Item = String> {
        let subject = self.subject.clone();
        (0..self.connections).filter_map(move |number| subject.as_ref().map(|subject| subject.of(number)))
    }
}

/// A server under test: started here, or running.
#[derive(Clone, Debug)]
pub struct ServerPlan {
    pub name: &'static str,
    /// Empty if it runs already.
    pub command: Vec<String>,
    pub pid: Option<u32>,
    /// Host, port and path that answer 200 when it is ready.
    pub ready: Option<(String, String)>,
    pub ready_time: Duration,
    /// What tells its version, for `compare`.
    pub version: Vec<String>,
}

/// The file.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub warm_up_seconds: u64,
    pub seconds: u64,
    pub rounds: u64,
    pub servers: Vec<ServerPlan>,
    pub roles: Vec<Role>,
}

/// A table whose keys are taken one by one: what is left at the end is unknown.
struct Keys {
    /// `server.`, or nothing.
    place: String,
    table: Table,
}

impl Keys {
    fn wrong(&self, key: &str, value: &Value, allowed: &str) -> ToolFailed {
        ToolFailed::Usage(format!("{}{key} = {value}: must be {allowed}", self.place))
    }

    fn number(&mut self, key: &str, allowed: std::ops::RangeInclusive<u64>, default: u64) -> Result<u64, ToolFailed> {
        let Some(value) = self.table.remove(key) else { return Ok(default) };
        let number = value.as_integer().and_then(|number| u64::try_from(number).ok()).filter(|number| allowed.contains(number));
        number.ok_or_else(|| self.wrong(key, &value, &format!("a whole number from {} to {}", allowed.start(), allowed.end())))
    }

    fn words(&mut self, key: &str) -> Result<Vec<String>, ToolFailed> {
        let Some(value) = self.table.remove(key) else { return Ok(Vec::new()) };
        let words = value.as_array().map(|words| words.iter().map_while(|word| word.as_str().map(str::to_owned)).collect::<Vec<_>>());
        let words = words.filter(|words| !words.is_empty() && value.as_array().is_some_and(|array| array.len() == words.len()));
        words.ok_or_else(|| self.wrong(key, &value, "a list of texts, a program and its arguments"))
    }

    fn text(&mut self, key: &str) -> Result<Option<String>, ToolFailed> {
        let Some(value) = self.table.remove(key) else { return Ok(None) };
        value.as_str().map(|text| Some(text.to_owned())).ok_or_else(|| self.wrong(key, &value, "a text"))
    }

    fn table(&mut self, key: &str) -> Result<Option<Table>, ToolFailed> {
        match self.table.remove(key) {
            None => Ok(None),
            Some(Value::Table(table)) => Ok(Some(table)),
            Some(value) => Err(self.wrong(key, &value, &format!("a table, [{}{key}]", self.place))),
        }
    }

    fn end(self, allowed: &str) -> Result<(), ToolFailed> {
        let left = self.table.iter().next();
        left.map_or(Ok(()), |(key, value)| {
            Err(ToolFailed::Usage(format!("{}{key} = {value}: no such key; there are {allowed}", self.place)))
        })
    }
}

impl Scenario {
    /// Reads a file's text. `tools` has the tools as subcommands.
    ///
    /// # Errors
    /// A mistake: key, value, and what is allowed, in a line.
    pub fn parse(text: &str, tools: &Command) -> Result<Scenario, ToolFailed> {
        let table: Table = toml::from_str(text).map_err(|error| ToolFailed::Usage(error.to_string().replace('\n', " ")))?;
        let mut keys = Keys { place: String::new(), table };
        let warm_up_seconds = keys.number("warm_up_seconds", 0..=3_600, 1)?;
        let seconds = keys.number("seconds", 1..=604_800, 10)?;
        let rounds = keys.number("rounds", 1..=1_000, 1)?;
        let mut servers = Vec::new();
        for name in SERVERS {
            if let Some(table) = keys.table(name)? {
                servers.push(server(name, Keys { place: format!("{name}."), table })?);
            }
        }
        let named = keys.table("roles")?.unwrap_or_default();
        keys.end("warm_up_seconds, seconds, rounds, server, control, roles")?;
        let mut roles = Vec::new();
        for (name, value) in named {
            let Value::Table(table) = value else {
                return Err(ToolFailed::Usage(format!("roles.{name} = {value}: must be a table, [roles.{name}]")));
            };
            roles.push(role(&name, Keys { place: format!("roles.{name}."), table }, tools)?);
        }
        if roles.is_empty() {
            return Err(ToolFailed::Usage("no roles: there must be a table [roles.NAME] at least, with tool = \"...\"".to_owned()));
        }
        Ok(Scenario { warm_up_seconds, seconds, rounds, servers, roles })
    }

    /// Roles of that part.
    pub fn of(&self, part: Part) -> impl Iterator<Item = &Role> {
        self.roles.iter().filter(move |role| role.part == part)
    }
}

fn server(name: &'static str, mut keys: Keys) -> Result<ServerPlan, ToolFailed> {
    let command = keys.words("command")?;
    let version = keys.words("version")?;
    let pid = keys.table.contains_key("pid").then(|| keys.number("pid", 1..=4_194_304, 0)).transpose()?;
    let ready_time = Duration::from_secs(keys.number("seconds", 1..=3_600, 30)?);
    let url = keys.text("ready")?;
    let ready = url.as_deref().map(|url| {
        let rest = url.strip_prefix("http://").filter(|rest| !rest.is_empty());
        let rest = rest.ok_or_else(|| ToolFailed::Usage(format!("{name}.ready = {url:?}: must be a URL, http://HOST:PORT/PATH")))?;
        let (host, path) = rest.find('/').map_or((rest, "/"), |slash| rest.split_at(slash));
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        Ok::<_, ToolFailed>((if has_port { host.to_owned() } else { format!("{host}:80") }, path.to_owned()))
    });
    let ready = ready.transpose()?;
    keys.end("command, pid, ready, seconds, version")?;
    match (command.is_empty(), pid) {
        (true, None) => Err(ToolFailed::Usage(format!("[{name}]: must have command = [...], or pid = N of one that runs"))),
        (false, Some(pid)) => Err(ToolFailed::Usage(format!("{name}.pid = {pid}: not together with {name}.command"))),
        _ => Ok(ServerPlan { name, command, pid: pid.map(|pid| pid as u32), ready, ready_time, version }),
    }
}

fn role(name: &str, mut keys: Keys, tools: &Command) -> Result<Role, ToolFailed> {
    let is_name = !name.is_empty() && name.len() <= 64 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if !is_name {
        return Err(ToolFailed::Usage(format!("roles.{name}: a role's name must be letters, digits, - and _, for it names files")));
    }
    let names: Vec<&str> = tools.get_subcommands().map(Command::get_name).collect();
    let tool =
        keys.text("tool")?.ok_or_else(|| ToolFailed::Usage(format!("roles.{name}: no tool; tool must be one of {}", names.join(", "))))?;
    let Some(command) = tools.get_subcommands().find(|command| command.get_name() == tool) else {
        return Err(keys.wrong("tool", &Value::String(tool), &format!("one of {}", names.join(", "))));
    };
    let server = keys.text("server")?.unwrap_or_else(|| SERVERS[0].to_owned());
    let Some(server) = SERVERS.into_iter().find(|known| *known == server) else {
        return Err(keys.wrong("server", &Value::String(server), "server or control"));
    };
    let options: BTreeMap<&str, bool> = command
        .get_arguments()
        .filter_map(|argument| Some((argument.get_long()?, argument.get_action().takes_values())))
        .filter(|(long, _)| *long != "help" && !OWN.contains(long))
        .collect();
    let mut arguments = Vec::new();
    for (key, value) in std::mem::take(&mut keys.table) {
        let long = key.replace('_', "-");
        let Some(takes_value) = options.get(long.as_str()) else {
            let why = if OWN.contains(&long.as_str()) { "the scenario sets it for all roles" } else { "no such key" };
            let known = options.keys().map(|long| long.replace('-', "_")).collect::<Vec<_>>().join(", ");
            return Err(ToolFailed::Usage(format!("roles.{name}.{key} = {value}: {why}; {tool} has {known}")));
        };
        match (takes_value, &value) {
            (false, Value::Boolean(true)) => arguments.push(format!("--{long}")),
            (false, Value::Boolean(false)) => {}
            (false, _) => return Err(keys.wrong(&key, &value, "true or false")),
            (true, Value::Array(values)) => {
                for value in values {
                    arguments.push(format!("--{long}={}", plain(value).ok_or_else(|| keys.wrong(&key, value, "a text or a number"))?));
                }
            }
            (true, value) => {
                arguments.push(format!("--{long}={}", plain(value).ok_or_else(|| keys.wrong(&key, value, "a text, a number, or a list"))?));
            }
        }
    }
    let words = ["corespan-bench", &tool].into_iter().chain(arguments.iter().map(String::as_str));
    let matches = tools.clone().try_get_matches_from(words).map_err(|error| mistake(name, &error))?;
    let options = matches.subcommand_matches(&tool);
    let number = |long: &str| options.and_then(|options| options.try_get_one::<u64>(long).ok().flatten().copied());
    let connections = number("connections").unwrap_or(1);
    let subject = options.and_then(|options| options.try_get_one::<Pattern>("subject").ok().flatten().cloned());
    let connecting = connections / number("connect_rate").unwrap_or(1_000).max(1);
    let part = match tool.as_str() {
        "sub" => Part::Subscriber,
        "pub" | "produce" => Part::Sender,
        _ => Part::Other,
    };
    // A tool has limits of its own for what it waits for; this is for one that does not keep them.
    let ready_time = Duration::from_secs(connecting + 60);
    Ok(Role { name: name.to_owned(), tool, part, server, arguments, connections, subject, ready_time })
}

/// A value as on a command line.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        _ => None,
    }
}

/// clap's word, with keys in place of options.
fn mistake(role: &str, error: &clap::Error) -> ToolFailed {
    let text = error.render().to_string();
    let lines = text.lines().take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"));
    let line = lines.map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    let line = line.trim_start_matches("error: ").to_owned();
    let missing = if error.kind() == ErrorKind::MissingRequiredArgument { " (each --name is a key of the role)" } else { "" };
    ToolFailed::Usage(format!("roles.{role}: {line}{missing}"))
}

#[cfg(test)]
mod tests {
    use clap::Subcommand as _;

    use super::*;
    use crate::bench::tools::Tool;

    const SUB: &str = "[roles.a]\ntool = \"sub\"\nurl = \"ws://127.0.0.1:1/\"\nsubject = \"/b/{n}\"\n";

    fn parse(text: &str) -> Result<Scenario, ToolFailed> {
        Scenario::parse(text, &Tool::augment_subcommands(Command::new("corespan-bench")))
    }

    #[test]
    fn keys_become_options_and_what_is_not_said_has_a_default() {
        let text = format!(
            "rounds = 2\n[server]\ncommand = [\"corespan\", \"serve\"]\nready = \"http://127.0.0.1:8801/ready\"\n{SUB}connections = 20000\n\
             source = [\"127.0.0.2\", \"127.0.0.3\"]\nprogress = true\n[roles.b]\ntool = \"produce\"\nbrokers = \"x:1\"\ntopic = \"b\"\n"
        );
        let scenario = parse(&text).expect("a scenario");
        assert_eq!((scenario.warm_up_seconds, scenario.seconds, scenario.rounds), (1, 10, 2));
        let server = &scenario.servers[0];
        assert_eq!((server.name, &server.ready), ("server", &Some(("127.0.0.1:8801".to_owned(), "/ready".to_owned()))));
        let role = scenario.of(Part::Subscriber).next().expect("a subscriber");
        assert_eq!(role.ready_time, Duration::from_secs(80));
        for argument in ["--connections=20000", "--source=127.0.0.2", "--source=127.0.0.3", "--progress", "--subject=/b/{n}"] {
            assert!(role.arguments.iter().any(|given| given == argument), "{argument}: {:?}", role.arguments);
        }
        assert_eq!(scenario.of(Part::Sender).count(), 1);
    }

    #[test]
    fn the_example_is_a_scenario() {
        let scenario = parse(include_str!("../../../benches/scenarios/deliver.toml")).expect("benches/scenarios/deliver.toml");
        assert_eq!((scenario.servers.len(), scenario.of(Part::Subscriber).count(), scenario.of(Part::Sender).count()), (1, 1, 1));
    }

    #[test]
    fn a_mistake_is_a_line_with_the_key_the_value_and_what_is_allowed() {
        for (text, words) in [
            ("seconds = 0\n".to_owned(), &["seconds = 0", "from 1 to 604800"][..]),
            ("seconds = \"5\"\n".to_owned(), &["seconds = \"5\"", "a whole number"]),
            ("second = 5\n".to_owned(), &["second = 5", "no such key", "warm_up_seconds, seconds"]),
            ("roles = 5\n".to_owned(), &["roles = 5", "a table"]),
            (String::new(), &["no roles", "[roles.NAME]"]),
            ("[roles.a]\nurl = \"x\"\n".to_owned(), &["roles.a: no tool", "sub, pub, produce"]),
            ("[roles.a]\ntool = \"bus\"\n".to_owned(), &["roles.a.tool = \"bus\"", "sub, pub, produce"]),
            ("[roles.\"../a\"]\ntool = \"sub\"\n".to_owned(), &["roles.../a", "letters, digits"]),
            (format!("{SUB}conections = 5\n"), &["roles.a.conections = 5", "no such key", "connections"]),
            (format!("{SUB}seconds = 5\n"), &["roles.a.seconds = 5", "the scenario sets it"]),
            (format!("{SUB}connections = 0\n"), &["roles.a", "--connections", "'0'", "1..=1000000"]),
            (format!("{SUB}progress = 1\n"), &["roles.a.progress = 1", "true or false"]),
            (format!("{SUB}server = \"other\"\n"), &["roles.a.server = \"other\"", "server or control"]),
            ("[roles.a]\ntool = \"produce\"\n".to_owned(), &["roles.a", "--brokers", "--topic"]),
            (format!("[server]\nready = \"x\"\n{SUB}"), &["server.ready = \"x\"", "http://HOST:PORT/PATH"]),
            (format!("[server]\n{SUB}"), &["[server]", "command", "pid"]),
            (format!("[server]\ncommand = []\n{SUB}"), &["server.command = []", "a list of texts"]),
            (format!("[server]\npid = 5\nfoo = 1\n{SUB}"), &["server.foo = 1", "command, pid"]),
            (format!("[server]\npid = 5\ncommand = [\"x\"]\n{SUB}"), &["server.pid = 5", "server.command"]),
            ("a = \n".to_owned(), &["line 1"]),
        ] {
            let error = parse(&text).expect_err(&text).to_string();
            assert!(!error.contains('\n'), "{error}");
            words.iter().for_each(|word| assert!(error.contains(word), "{word} in {error}"));
        }
    }
}
