//! What Envoy's own log tells of a change of its configuration.

use libtest_mimic::Trial;

use crate::trial;

/// Level, component, text.
pub(crate) const FORMAT: &str = "%l\t%n\t%v";

const LISTENER_ADDED: &str = "lds: add/update listener";
const LISTENER_REMOVED: &str = "lds: remove listener";

/// Lines that are worth a warning.
pub(crate) fn complaints(log: &str) -> Vec<String> {
    let level = |line: &str| line.split('\t').next().unwrap_or_default().to_owned();
    let lines = log
        .lines()
        .filter(|line| ["warning", "error", "critical"].contains(&level(line).as_str()));
    lines.map(str::to_owned).collect()
}

/// Whether Envoy tells of changes in the words that [`disorder`] looks for.
pub(crate) fn tells_of_changes(log: &str) -> bool {
    log.lines().any(|line| clusters_changed(line).is_some()) && log.contains(LISTENER_ADDED)
}

/// What was not made before what needs it, or not kept until nothing needed it: clusters come before listeners, and go after.
pub(crate) fn disorder(log: &str) -> Option<String> {
    let lines: Vec<&str> = log.lines().collect();
    let clusters = |index: usize| clusters_changed(lines[index]);
    let added = (0..lines.len()).find(|index| clusters(*index).is_some_and(|(added, _)| added > 0));
    let removed = (0..lines.len()).rfind(|index| clusters(*index).is_some_and(|(_, removed)| removed > 0));
    let listener_added = lines.iter().position(|line| line.contains(LISTENER_ADDED));
    let listener_removed = lines.iter().rposition(|line| line.contains(LISTENER_REMOVED));
    match (added, listener_added) {
        (Some(cluster), Some(listener)) if listener < cluster => {
            return Some(format!("a listener came first: {}", lines[listener]));
        }
        _ => {}
    }
    match (removed, listener_removed) {
        (Some(cluster), Some(listener)) if cluster < listener => {
            Some(format!("a cluster went first: {}", lines[cluster]))
        }
        _ => None,
    }
}

/// How many clusters were added or changed, and how many removed. A response of the state of the world repeats the others.
fn clusters_changed(line: &str) -> Option<(usize, usize)> {
    let said = line.split_once("cds: added/updated ")?.1;
    let (added, rest) = said.split_once(" cluster(s) ")?;
    let removed = rest.split_once("removed ")?.1.split_once(" cluster(s)")?.0;
    Some((added.parse().ok()?, removed.parse().ok()?))
}

/// The judgement itself.
pub(crate) fn trials() -> Vec<Trial> {
    vec![trial("log::disorder_is_seen", || {
        let clusters = |added: usize, removed: usize| {
            format!(
                "info\tupstream\tcds: added/updated {added} cluster(s) (skipped 7 unmodified cluster(s)); removed {removed} cluster(s)\n"
            )
        };
        let (added, removed) = (
            format!("info\tupstream\t{LISTENER_ADDED} 'a'\n"),
            format!("info\tupstream\t{LISTENER_REMOVED} 'a'\n"),
        );
        let ordered = [clusters(1, 0), added.clone(), removed.clone(), clusters(0, 1)].concat();
        assert!(disorder(&ordered).is_none() && tells_of_changes(&ordered));
        assert!(disorder(&[added, clusters(1, 0)].concat()).is_some());
        assert!(disorder(&[clusters(0, 1), removed].concat()).is_some());
        assert_eq!(complaints("info\ta\tb\nwarning\tmisc\tDeprecated\n").len(), 1);
    })]
}
