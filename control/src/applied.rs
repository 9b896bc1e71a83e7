//! What is in force: of every object the last version that was in order.
//!
//! Invariants: an object whose new version is refused keeps its last good version; an object in force is never taken away
//! because something it refers to is gone, only because it is gone itself; a policy that cannot be read and has no last good
//! version closes its namespace instead of leaving it open. What was withheld is looked at again on every load, so that it
//! comes into force as soon as what it refers to is there.

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    analyze,
    diag::{Code, Diagnostic, Severity},
    istio::{FieldPath, Kind, Loaded, Object, ObjectId, Objects, Skipped, authorization_policy::AuthorizationPolicy},
};

/// The configuration in force and what there is to say about the files it came from.
#[derive(Debug, Clone, Default)]
pub struct Applied {
    /// The objects in force.
    pub objects: Objects,
    /// Findings in the files as they are now, in order of place.
    pub diagnostics: Vec<Diagnostic>,
    /// Objects that are in the files in a version that is not in force.
    pub withheld: BTreeSet<ObjectId>,
    /// Objects of kinds that concern no proxy.
    pub skipped: Vec<Skipped>,
}

impl Applied {
    /// The configuration in force after a load. `root_namespace` is where policies for the whole mesh are.
    pub fn advance(&self, loaded: Loaded, root_namespace: &str) -> Self {
        let mut next = Step {
            before: &self.objects,
            objects: self.unchanged(&loaded.objects),
            withheld: loaded.rejected.keys().cloned().collect(),
            diagnostics: loaded.diagnostics.clone(),
        };
        next.keep_last_good(&loaded);
        next.close_open_namespaces(&loaded);
        next.withhold_errors(root_namespace);
        next.diagnostics.sort();
        next.diagnostics.dedup();
        Self {
            objects: next.objects,
            diagnostics: next.diagnostics,
            withheld: next.withheld,
            skipped: loaded.skipped,
        }
    }

    /// Whether another state differs in anything that can be seen.
    pub fn differs(&self, other: &Self) -> bool {
        let objects = |state: &Self| state.objects.iter().map(Arc::as_ptr).collect::<Vec<_>>();
        objects(self) != objects(other)
            || self.diagnostics != other.diagnostics
            || self.withheld != other.withheld
            || self.skipped != other.skipped
    }

    /// The loaded objects, sharing those that did not change.
    fn unchanged(&self, loaded: &Objects) -> Objects {
        loaded
            .iter()
            .map(|object| match self.objects.by_id(&object.id) {
                Some(before) if Arc::ptr_eq(before, object) || before == object => Arc::clone(before),
                Some(_) | None => Arc::clone(object),
            })
            .collect()
    }
}

/// A state that is being made.
struct Step<'a> {
    before: &'a Objects,
    objects: Objects,
    withheld: BTreeSet<ObjectId>,
    diagnostics: Vec<Diagnostic>,
}

impl Step<'_> {
    /// What is refused now, or may be in something that could not be read, stays as it was.
    fn keep_last_good(&mut self, loaded: &Loaded) {
        for object in self
            .before
            .iter()
            .filter(|object| loaded.objects.by_id(&object.id).is_none())
        {
            let hidden = loaded.incomplete || loaded.unreadable.contains(object.file());
            if hidden || loaded.rejected.contains_key(&object.id) {
                self.objects.insert(Arc::clone(object));
            }
        }
    }

    /// Where a policy is refused and there is no earlier one, its namespace lets nothing pass.
    fn close_open_namespaces(&mut self, loaded: &Loaded) {
        for (id, at) in loaded
            .rejected
            .iter()
            .filter(|(id, _)| id.kind == AuthorizationPolicy::NAME && !id.namespace.is_empty())
        {
            let kept = self.objects.by_id(id);
            if kept.is_some_and(|kept| !kept.is_closed_policy()) {
                continue;
            }
            if kept.is_none() {
                self.objects.insert(Arc::new(Object::closed_policy(id.clone(), at)));
            }
            self.diagnostics.push(closed(id, at));
        }
    }

    /// Objects that would break something go back to their last good version, until nothing breaks that was not broken before.
    fn withhold_errors(&mut self, root_namespace: &str) {
        let mut judged = BTreeSet::new();
        loop {
            let found = analyze::check(&self.objects, self.before, root_namespace);
            let bad: BTreeSet<ObjectId> = found
                .iter()
                .filter(|finding| finding.is_error())
                .filter_map(|finding| finding.object.clone())
                .collect();
            let new: Vec<_> = bad.difference(&judged).cloned().collect();
            self.report(found, &judged);
            if new.is_empty() {
                return;
            }
            for id in new {
                self.withhold(&id);
                judged.insert(id);
            }
        }
    }

    /// The first round says everything; later ones only what follows from withholding.
    fn report(&mut self, found: Vec<Diagnostic>, judged: &BTreeSet<ObjectId>) {
        let first = judged.is_empty();
        self.diagnostics.extend(found.into_iter().filter(|finding| {
            first || (finding.is_error() && finding.object.as_ref().is_none_or(|object| !judged.contains(object)))
        }));
    }

    fn withhold(&mut self, id: &ObjectId) {
        match self.before.by_id(id) {
            Some(before) => {
                let new = self.objects.insert(Arc::clone(before));
                if new.is_none_or(|new| new.spec != before.spec) {
                    self.withheld.insert(id.clone());
                }
            }
            None => {
                self.objects.remove(id);
                self.withheld.insert(id.clone());
            }
        }
    }
}

fn closed(id: &ObjectId, at: &crate::diag::Location) -> Diagnostic {
    let message = format!(
        "cannot be applied and has no earlier version: until it is corrected, namespace {} lets nothing pass",
        id.namespace
    );
    Diagnostic {
        location: Some(at.clone()),
        object: Some(id.clone()),
        field: FieldPath::ROOT.to_string(),
        code: Code::DeniesEverything,
        severity: Severity::Warning,
        message,
        advice: Some("correct the errors of this object".into()),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;
    use crate::istio::{load, service_entry::ServiceEntry, virtual_service::VirtualService};

    const ENTRY: &str = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: e, namespace: ns}\nspec:\n  hosts: [a.test]\n  resolution: DNS\n  ports: [{number: 80, name: http, protocol: HTTP}]\n";

    /// A directory and what is in force after each change of it.
    struct Site {
        directory: tempfile::TempDir,
        applied: Applied,
    }

    impl Site {
        fn new(files: &[(&str, &str)]) -> Self {
            let mut site = Self {
                directory: tempfile::tempdir().unwrap(),
                applied: Applied::default(),
            };
            for (name, text) in files {
                site.put(name, text);
            }
            site.load();
            site
        }

        fn path(&self, name: &str) -> std::path::PathBuf {
            Path::join(self.directory.path(), name)
        }

        fn put(&mut self, name: &str, text: &str) {
            fs::write(self.path(name), text).unwrap();
        }

        fn load(&mut self) {
            self.applied = self.applied.advance(load(self.directory.path()), "root");
        }

        fn change(&mut self, name: &str, text: &str) -> &Applied {
            self.put(name, text);
            self.load();
            &self.applied
        }

        fn codes(&self) -> Vec<&str> {
            self.applied
                .diagnostics
                .iter()
                .map(|finding| finding.code.as_str())
                .collect()
        }

        fn route_to(&self) -> Option<String> {
            let (_, service) = self.applied.objects.get::<VirtualService>("ns", "v")?;
            Some(service.http[0].route[0].destination.host.to_string())
        }
    }

    fn route(host: &str) -> String {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: v, namespace: ns}}\nspec:\n  \
             hosts: [a.test]\n  http:\n  - route:\n    - destination: {{host: {host}, port: {{number: 80}}}}\n"
        )
    }

    #[test]
    fn an_object_comes_into_force_once_its_reference_is_there() {
        let mut site = Site::new(&[("v.yaml", &route("a.test"))]);
        assert_eq!((site.route_to(), site.codes()), (None, vec!["IST0101"]));
        assert!(
            site.applied
                .withheld
                .contains(&ObjectId::new("VirtualService", "ns", "v"))
        );
        site.change("e.yaml", ENTRY);
        assert_eq!((site.route_to(), site.codes()), (Some("a.test".into()), vec![]));
        assert!(site.applied.withheld.is_empty());
    }

    #[test]
    fn a_bad_version_leaves_the_last_good_one_in_force() {
        let mut site = Site::new(&[("e.yaml", ENTRY), ("v.yaml", &route("a.test"))]);
        for bad in [
            route("b.test"),
            route("a.test").replace("hosts", "host"),
            route("a.test").replace("spec:", "spec: ["),
        ] {
            site.change("v.yaml", &bad);
            assert_eq!(site.route_to().as_deref(), Some("a.test"), "{bad}");
            assert_eq!(site.applied.withheld.len(), 1);
            assert!(!site.codes().is_empty());
        }
        site.change("v.yaml", "not: [an object");
        assert_eq!(
            site.route_to().as_deref(),
            Some("a.test"),
            "the file still stands for what it held"
        );
        site.change("v.yaml", "");
        assert_eq!(site.route_to(), None, "an object that is gone is gone");
    }

    #[test]
    fn what_is_in_force_stays_when_its_reference_goes() {
        let mut site = Site::new(&[("e.yaml", ENTRY), ("v.yaml", &route("a.test"))]);
        site.change("e.yaml", "");
        assert_eq!(
            (site.route_to().as_deref(), site.codes()),
            (Some("a.test"), vec!["IST0101"])
        );
        assert!(site.applied.objects.get::<ServiceEntry>("ns", "e").is_none());
        assert!(site.applied.withheld.is_empty());
    }

    #[test]
    fn of_two_that_compete_the_one_in_force_prevails() {
        let mut site = Site::new(&[("e.yaml", ENTRY), ("v.yaml", &route("a.test"))]);
        site.change("a.yaml", &route("a.test").replace("name: v", "name: a"));
        assert_eq!(site.codes(), ["IST0109"]);
        assert_eq!(
            site.applied
                .withheld
                .iter()
                .map(|id| id.name.as_str())
                .collect::<Vec<_>>(),
            ["a"]
        );
        assert!(site.route_to().is_some());
    }

    #[test]
    fn an_object_defined_twice_stays_as_it_was() {
        let mut site = Site::new(&[("e.yaml", ENTRY), ("v.yaml", &route("a.test"))]);
        site.change("w.yaml", &route("a.test"));
        assert_eq!(
            (site.route_to().as_deref(), site.codes()),
            (Some("a.test"), vec!["SP0003"])
        );
    }

    #[test]
    fn a_policy_that_cannot_be_read_closes_its_namespace() {
        let policy = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: ns}\nspec:\n  rules:\n  - {}\n";
        let rules = |site: &Site| {
            site.applied
                .objects
                .get::<AuthorizationPolicy>("ns", "p")
                .map(|(_, policy)| policy.rules.len())
        };
        let mut site = Site::new(&[("p.yaml", &policy.replace("rules", "rulse"))]);
        assert_eq!((rules(&site), site.codes()), (Some(0), vec!["SP0005", "IST0106"]));
        site.load();
        assert_eq!(
            (rules(&site), site.codes()),
            (Some(0), vec!["SP0005", "IST0106"]),
            "and says so as long as it lasts"
        );
        site.change("p.yaml", policy);
        assert_eq!((rules(&site), site.codes()), (Some(1), vec![]));
        site.change("p.yaml", &policy.replace("rules", "rulse"));
        assert_eq!(
            (rules(&site), site.codes()),
            (Some(1), vec!["IST0106"]),
            "the last good version is better"
        );
    }

    #[test]
    fn nothing_differs_when_nothing_changed() {
        let mut site = Site::new(&[("e.yaml", ENTRY), ("v.yaml", &route("a.test"))]);
        let before = site.applied.clone();
        site.load();
        assert!(!before.differs(&site.applied));
        site.change("e.yaml", &ENTRY.replace("number: 80", "number: 81"));
        assert!(before.differs(&site.applied));
    }
}
