//! The keys of `tuning/60-corespan.conf`, the same file that goes to `/etc/sysctl.d`, beside what the kernel has.

use super::finding::Finding;
use super::tree::Tree;

/// The page's own file.
const WANTED: &str = include_str!("../../tuning/60-corespan.conf");

/// Keys that are bounds: more is no worse. Of the others the value itself is what is wanted.
const BOUNDS: [&str; 4] = ["net.core.somaxconn", "net.ipv4.tcp_max_syn_backlog", "net.core.netdev_max_backlog", "fs.file-max"];

/// A key and what the file gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub key: &'static str,
    /// Words, one space between them.
    pub value: String,
}

impl Wanted {
    /// Below the root.
    pub fn path(&self) -> String {
        format!("proc/sys/{}", self.key.replace('.', "/"))
    }

    /// Whether what the kernel has does as well.
    pub fn is_met_by(&self, now: &str) -> bool {
        let number = |text: &str| text.parse::<u64>().ok();
        match (BOUNDS.contains(&self.key), number(now), number(&self.value)) {
            (true, Some(now), Some(wanted)) => now >= wanted,
            _ => now.split_whitespace().eq(self.value.split_whitespace()),
        }
    }
}

/// Keys that are set there; comments and choices are not.
pub(super) fn wanted() -> Vec<Wanted> {
    let one = |line: &'static str| {
        let (key, value) = line.strip_prefix('-').unwrap_or(line).split_once('=')?;
        Some(Wanted { key: key.trim(), value: value.split_whitespace().collect::<Vec<_>>().join(" ") })
    };
    WANTED.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])).filter_map(one).collect()
}

/// Bounds that are lower than wanted: raising one costs nothing until it is used. The other keys change how connections behave, or which ports are
/// taken, so they are the operator's to choose.
pub(super) fn raisable(tree: &Tree) -> Vec<Wanted> {
    let is_low = |wanted: &Wanted| {
        let now = tree.text(&wanted.path()).filter(|now| now.parse::<u64>().is_ok());
        BOUNDS.contains(&wanted.key) && now.is_some_and(|now| !wanted.is_met_by(&now))
    };
    wanted().into_iter().filter(is_low).collect()
}

/// One line for bounds that are too low and one for the other keys.
pub(super) fn examine(tree: &Tree) -> Vec<Finding> {
    let (mut low, mut others, mut met, mut absent) = (Vec::new(), Vec::new(), 0, 0);
    for wanted in wanted() {
        let Some(now) = tree.text(&wanted.path()) else {
            absent += 1;
            continue;
        };
        let now = now.split_whitespace().collect::<Vec<_>>().join(" ");
        let line = || format!("{} = {now} (wanted: {})", wanted.key, wanted.value);
        match (wanted.is_met_by(&now), BOUNDS.contains(&wanted.key)) {
            (true, _) => met += 1,
            (false, true) => low.push(line()),
            (false, false) => others.push(line()),
        }
    }
    let mut findings = Vec::new();
    if !low.is_empty() {
        let remedy = "corespan doctor --apply, until a restart; 60-corespan.conf in /etc/sysctl.d for good";
        findings.push(Finding::advice("sysctl-bounds", format!("lower than a storm of reconnects needs: {}", low.join(", ")), remedy));
    }
    if !others.is_empty() {
        let remedy = "read in tuning/README.md when each hurts, then corespan-tune sysctl apply, or 60-corespan.conf in /etc/sysctl.d";
        findings.push(Finding::advice("sysctls", format!("other than 60-corespan.conf: {}", others.join(", ")), remedy));
    }
    if findings.is_empty() {
        findings.push(Finding::fine("sysctls", format!("{met} keys as in 60-corespan.conf, {absent} are not there on this host")));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::super::tree::made_up;
    use super::*;

    #[test]
    fn what_is_wanted_is_what_the_page_has() {
        let wanted = wanted();
        let value = |key: &str| wanted.iter().find(|wanted| wanted.key == key).map(|wanted| wanted.value.as_str());
        assert_eq!(value("net.core.somaxconn"), Some("4096"));
        assert_eq!(value("net.ipv4.tcp_rmem"), Some("4096 131072 4194304"));
        assert_eq!(value("net.core.busy_read"), Some("0"), "a key after a dash is a key");
        assert_eq!(value("net.ipv4.tcp_mem"), None, "a choice is none");
        assert!(BOUNDS.iter().all(|bound| value(bound).is_some()), "a bound that the page has given up");
    }

    #[test]
    fn a_bound_that_is_higher_is_fine_and_another_value_is_not() {
        let (_folder, tree) = made_up::tree(&[
            ("proc/sys/net/core/somaxconn", "65535"),
            ("proc/sys/net/core/netdev_max_backlog", "1000"),
            ("proc/sys/net/ipv4/tcp_rmem", "4096\t131072\t4194304"),
            ("proc/sys/net/ipv4/tcp_slow_start_after_idle", "1"),
        ]);
        let findings = examine(&tree);
        assert_eq!(
            findings.iter().map(|finding| (finding.check, finding.verdict)).collect::<Vec<_>>(),
            [("sysctl-bounds", Verdict::Advice), ("sysctls", Verdict::Advice)]
        );
        assert!(findings[0].finding.ends_with("needs: net.core.netdev_max_backlog = 1000 (wanted: 4096)"), "{}", findings[0].finding);
        assert!(findings[1].finding.ends_with("conf: net.ipv4.tcp_slow_start_after_idle = 1 (wanted: 0)"), "{}", findings[1].finding);
        assert_eq!(raisable(&tree).iter().map(|wanted| wanted.key).collect::<Vec<_>>(), ["net.core.netdev_max_backlog"]);
        let (_folder, empty) = made_up::tree(&[]);
        assert_eq!(examine(&empty)[0].verdict, Verdict::Fine);
    }
}
