//! The tutorial's resources, carried inside the program so that it needs no checkout.
//!
//! Which file belongs to which chapter stands in `examples/README.md`.

use std::{fs, io, path::Path};

/// A resource file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Manifest {
    /// The directory below `examples/`.
    pub set: &'static str,
    /// The file's name. A file written later replaces the one of the same name.
    pub name: &'static str,
    /// What is in it.
    pub text: &'static str,
}

macro_rules! manifests {
    ($($set:literal: $($name:literal)+;)+) => {
        /// Every file.
        pub const ALL: &[Manifest] = &[$($(
            Manifest { set: $set, name: $name, text: include_str!(concat!("../../../examples/", $set, "/", $name)) },
        )+)+];
    };
}

manifests! {
    "tutorial":
        "00-cluster.yaml" "01-egressgateway-operator.yaml" "10-strict-mtls.yaml" "20-test-app-team-x.yaml"
        "30-sidecar-team-x.yaml" "40-gateway.yaml" "41-target-egress-gateway.yaml" "42-example-com.yaml"
        "43-example-com-route.yaml" "50-sidecar-team-y.yaml" "51-test-app-team-y.yaml" "52-httpbin-org.yaml"
        "53-httpbin-org-route.yaml" "60-policy-team-x-example-com.yaml" "61-policy-team-y-httpbin-teapot.yaml"
        "70-example-com-originate-tls.yaml" "80-policy-all-443.yaml" "90-network-policies.yaml"
        "91-google-service-account.yaml" "92-google-metadata-server.yaml" "93-google-apis.yaml";
    "tutorial-steps/relay":
        "40-gateway.yaml" "41-target-egress-gateway.yaml" "43-example-com-route.yaml" "53-httpbin-org-route.yaml";
    "tutorial-steps/origination":
        "43-example-com-route.yaml";
}

/// Finds a file by its path below `examples/`.
pub fn find(path: &str) -> Option<&'static Manifest> {
    let (set, name) = path.rsplit_once('/')?;
    ALL.iter().find(|manifest| manifest.set == set && manifest.name == name)
}

impl Manifest {
    /// Puts the file into a directory that may be watched: written aside and renamed, so that nobody reads half of it.
    ///
    /// # Errors
    /// The file system says no.
    pub fn write(&self, directory: &Path) -> io::Result<()> {
        let aside = directory.join(format!(".{}.new", self.name));
        fs::write(&aside, self.text)?;
        fs::rename(aside, directory.join(self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_tutorial_is_carried() {
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
        let mut on_disk = 0;
        for set in ["tutorial", "tutorial-steps/relay", "tutorial-steps/origination"] {
            for entry in fs::read_dir(examples.join(set)).unwrap() {
                let path = format!("{set}/{}", entry.unwrap().file_name().to_str().unwrap());
                assert!(find(&path).is_some(), "{path} is not carried");
                on_disk += 1;
            }
        }
        assert_eq!(on_disk, ALL.len());
    }

    #[test]
    fn a_later_file_replaces_the_one_of_the_same_name() {
        let directory = tempfile::tempdir().unwrap();
        for path in ["tutorial-steps/relay/40-gateway.yaml", "tutorial/40-gateway.yaml"] {
            find(path).unwrap().write(directory.path()).unwrap();
        }
        let files: Vec<_> = fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        assert_eq!(files, [directory.path().join("40-gateway.yaml")]);
        assert_eq!(
            fs::read_to_string(&files[0]).unwrap(),
            find("tutorial/40-gateway.yaml").unwrap().text
        );
    }
}
