//! `sallyport analyze`: what is wrong with resources, where, and what to do about it.

use std::{io::Write, path::PathBuf, process::ExitCode};

use ::control::{
    analyze::{Analysis, analyze},
    diag::{Diagnostic, Severity},
};
use anyhow::ensure;

use super::mesh;
use crate::terminal::Style;

const EXAMPLES: &str = "\
Examples:
  # the Istio and Kubernetes resources of a directory, recursively
  sallyport analyze examples/tutorial

  # one file, for a script
  sallyport analyze gateway.yaml --json | jq -r '.diagnostics[] | .code'

Exit code 1 if there is an error; warnings alone do not fail.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Directory or file with resources in YAML
    path: PathBuf,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    mesh: mesh::Args,
    /// Namespace whose policies apply to the whole mesh; stands above rootNamespace of --mesh-config [default: istio-system]
    #[arg(long, value_name = "NAMESPACE")]
    root_namespace: Option<String>,
}

pub(super) fn run(args: &Args, out: &mut dyn Write, style: Style) -> anyhow::Result<ExitCode> {
    ensure!(args.path.exists(), "{}: no such file or directory", args.path.display());
    let mut mesh = args.mesh.read()?;
    if let Some(namespace) = &args.root_namespace {
        mesh.root_namespace.clone_from(namespace);
    }
    let analysis = analyze(&args.path, &mesh);
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &analysis)?;
        writeln!(out)?;
    } else {
        report(args, &analysis, out, style)?;
    }
    let failed = analysis.diagnostics.iter().any(Diagnostic::is_error);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn report(args: &Args, analysis: &Analysis, out: &mut dyn Write, style: Style) -> anyhow::Result<()> {
    for diagnostic in &analysis.diagnostics {
        show(diagnostic, out, style)?;
    }
    let read = format!(
        "{} read, {} of kinds that concern no proxy",
        count(analysis.objects, "object"),
        analysis.skipped.len()
    );
    if analysis.diagnostics.iter().all(|one| one.severity == Severity::Info) {
        let fine = style.good("✔ No validation issues found");
        writeln!(
            out,
            "{fine} when analyzing {} {}",
            args.path.display(),
            style.dim(format!("({read})"))
        )?;
    } else {
        let found = |severity, what| {
            let found = analysis.diagnostics.iter().filter(|one| one.severity == severity);
            count(found.count(), what)
        };
        let (errors, warnings) = (found(Severity::Error, "error"), found(Severity::Warning, "warning"));
        writeln!(out, "{errors}, {warnings}, {} ({read})", found(Severity::Info, "note"))?;
    }
    Ok(())
}

fn count(number: usize, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        _ => format!("{number} {what}s"),
    }
}

/// Three lines: what kind and where; what; what to do.
fn show(diagnostic: &Diagnostic, out: &mut dyn Write, style: Style) -> anyhow::Result<()> {
    let label = format!("{:?} [{}]", diagnostic.severity, diagnostic.code);
    let label = match diagnostic.severity {
        Severity::Error => style.bad(label),
        Severity::Warning | Severity::Info => style.bold(label),
    };
    let object = diagnostic
        .object
        .as_ref()
        .map(|object| format!(" {object}"))
        .unwrap_or_default();
    let place = diagnostic
        .location
        .as_ref()
        .map(|place| format!(" {place}"))
        .unwrap_or_default();
    writeln!(out, "{label}{object}{}", style.dim(place))?;
    if diagnostic.field.is_empty() {
        writeln!(out, "  {}", diagnostic.message)?;
    } else {
        writeln!(out, "  {}: {}", diagnostic.field, diagnostic.message)?;
    }
    if let Some(advice) = &diagnostic.advice {
        let what = match diagnostic.severity {
            Severity::Error | Severity::Warning => "fix",
            Severity::Info => "otherwise",
        };
        writeln!(out, "  {what}: {advice}")?;
    }
    writeln!(out)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::Value;

    use super::*;

    const TYPO: &str = "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata:\n  name: gate\n  namespace: here\nspec:\n  selectors: {}\n";

    fn run_on(text: &str, json: bool) -> (ExitCode, String) {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("a.yaml"), text).unwrap();
        let args = Args {
            path: directory.path().to_owned(),
            json,
            mesh: mesh::Args::default(),
            root_namespace: None,
        };
        let mut out = Vec::new();
        let code = run(&args, &mut out, Style::PLAIN).unwrap();
        (code, String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_mistake_is_shown_with_its_place_and_fails() {
        let (code, text) = run_on(TYPO, false);
        assert_eq!(code, ExitCode::FAILURE);
        assert!(
            text.contains("Gateway here/gate") && text.contains("a.yaml:7"),
            "{text}"
        );
        let (code, text) = run_on(TYPO, true);
        let report: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(code, ExitCode::FAILURE);
        let found = report["diagnostics"].as_array().unwrap();
        assert!(found.iter().any(|one| one["location"]["line"] == 7), "{report}");
    }

    #[test]
    fn nothing_wrong_is_success() {
        let (code, text) = run_on("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: here\n", false);
        assert_eq!(code, ExitCode::SUCCESS);
        assert!(text.starts_with("✔ No validation issues found"), "{text}");
    }
}
