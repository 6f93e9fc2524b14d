//! Two HSMs, and the third that comes later: soft tokens in folders of their own. `first` and `third` are behind
//! `p11-kit server`, so that what serves them is a process of its own too.

use std::{fs, process::Command, time::Duration};

use hallmark_testkit::{p11_kit::P11Kit, softhsm::SoftHsm};

use crate::support::{Server, Site, soak_or};

/// The shortest that a configuration may have; shorter in `make test`.
pub(super) fn line_timeout() -> Duration {
    soak_or(Duration::from_secs(2), Duration::from_mins(1))
}

/// For how long what signed stays published.
pub(super) fn keep() -> Duration {
    soak_or(Duration::from_millis(1500), Duration::from_secs(15))
}

pub(super) struct Place {
    site: Site,
    pub(super) first: SoftHsm,
    pub(super) third: SoftHsm,
}

impl Place {
    pub(super) fn new() -> Self {
        let (mut site, first, third) = (Site::new(), SoftHsm::new(), SoftHsm::new());
        site.replace("name = \"soft\"", "name = \"second\"");
        site.replace("hsm = [\"soft\"]", "hsm = [\"first\", \"second\"]");
        site.append(&section("first", &format!("token_serial = \"{}\"", serial(&first)), &first));
        site.append(&format!(
            "\n[unsafe_testing]\nsweep_every = \"100ms\"\nlead = \"{}\"\nkeep = \"{}ms\"\nline_timeout = \"{}s\"\n",
            soak_or("1s", "10s"),
            keep().as_millis(),
            line_timeout().as_secs()
        ));
        Self { site, first, third }
    }

    pub(super) fn start(&self) -> Server {
        self.site.start_with(|command| _ = command.arg("--unsafe-testing"))
    }

    /// What it held is gone for good.
    pub(super) fn destroy_first(&self) {
        fs::remove_dir_all(self.first.folder().join("tokens")).unwrap();
    }

    /// As `docs/OPERATIONS.md` says: a section for the new HSM, and its name in the place of the lost one's. The lost
    /// one's section stays until its keys are retired.
    pub(super) fn put_third_in_place(&mut self, server: &Server) {
        let Self { site, first, third } = self;
        let [from, to] = [&*first, &*third].map(|token| P11Kit::env(token)[0].1.display().to_string());
        site.replace(&from, &to);
        site.append(&section("third", &format!("token_label = \"{}\"", SoftHsm::LABEL), third));
        site.replace("hsm = [\"first\", \"second\"]", "hsm = [\"third\", \"second\"]");
        // Callers and verifiers find the new process where the old one was.
        let grpc = server.grpc.strip_prefix("https://").unwrap();
        site.replace("[grpc]\nlisten = \"127.0.0.1:0\"", &format!("[grpc]\nlisten = \"{grpc}\""));
        site.replace("[jwks]\nlisten = \"127.0.0.1:0\"", &format!("[jwks]\nlisten = \"{}\"", server.jwks));
    }
}

/// The section of a token that is behind a server of its own. One worker: see `hsm-config/p11-kit.md`.
fn section(name: &str, selector: &str, token: &SoftHsm) -> String {
    let (variable, address) = P11Kit::env(token).remove(0);
    format!(
        "\n[[hsm]]\nname = \"{name}\"\nmodule = \"{}\"\nmodule_env = {{ {variable} = \"{}\" }}\n{selector}\n\
         pin_source = \"file:{}\"\nworkers = 1\n",
        P11Kit::module().display(),
        address.display(),
        token.pin_file().display()
    )
}

fn serial(token: &SoftHsm) -> String {
    let shown = Command::new("softhsm2-util").arg("--show-slots").envs(token.env()).output().unwrap();
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    let serials = shown.lines().filter_map(|line| line.trim().strip_prefix("Serial number:"));
    serials.map(str::trim).find(|serial| !serial.is_empty()).unwrap().to_owned()
}
