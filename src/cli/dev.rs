//! `hallmark dev`: a server with a SoftHSM token of its own, or on a YubiKey, in one command.

mod again;
mod hsm;
mod sandbox;

use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
    time::Duration,
};

use hallmark_core::{client::Client, key::Alg};
use serde_json::json;

use self::sandbox::{Plan, Sandbox, TOKEN_LABEL};
use super::{
    Failure, Prepared,
    args::{DevArgs, DevClient},
    failure,
    serve::{self, Signals, Told},
};
use crate::{
    app::{self, Running},
    config::{self, Config},
    hardening::Scope,
    hsm::pkcs11::{Modules, provision_token},
};

/// gRPC, JWKS and metrics of a folder that is kept; an ephemeral one takes what is free.
const PORTS: [u16; 3] = [7443, 7480, 7490];
/// Where a token endpoint would be that nobody named.
const TOKEN_ENDPOINT: &str = "http://localhost:3000/token";
/// How long a soft token may take to make two keys for each client.
const PATIENCE: Duration = Duration::from_secs(120);

pub(super) fn prepare(args: DevArgs, json: bool) -> Result<Prepared, Failure> {
    let dev = Dev::new(args, json)?;
    let environment = serve::environment(&dev.config);
    Ok(Prepared::new(async move || dev.run().await).with_environment(environment).with_scope(Scope::Development))
}

/// A folder that is ready to be served, and the configuration in it. The token comes later: its module needs the
/// environment that the configuration names.
#[derive(Debug)]
struct Dev {
    sandbox: Sandbox,
    config: Config,
    fresh: bool,
    args: DevArgs,
    json: bool,
    /// Removes an ephemeral folder at the end.
    _remove: Option<tempfile::TempDir>,
}

impl Dev {
    fn new(args: DevArgs, json: bool) -> Result<Self, Failure> {
        let temporary = args.ephemeral.then(|| tempfile::Builder::new().prefix("hallmark-dev-").tempdir()).transpose();
        let temporary = temporary.map_err(|error| failed("can't make a temporary folder", &error))?;
        let dir = match &temporary {
            Some(dir) => dir.path().to_owned(),
            None => std::path::absolute(&args.dir).map_err(|error| failed("can't read the current folder", &error))?,
        };
        let sandbox = Sandbox::new(dir);
        let fresh = !sandbox.exists();
        let config =
            if fresh { made(&sandbox, &args)? } else { config::load(&sandbox.config()).map_err(serve::bad_config)? };
        if !fresh && !again::has_all(&config, &args)? {
            let text = format!("`{}` is there already, with its own clients and HSM", sandbox.config().display());
            return Err(Failure::new(text).hint("edit that file, or use another --dir").with_exit_code(failure::USAGE));
        }
        Ok(Self { sandbox, config, fresh, args, json, _remove: temporary })
    }

    /// Makes the token where there is none, starts the server, says so, and serves until it is told to stop.
    async fn run(self) -> Result<u8, Failure> {
        serve::start_log(self.json, "warn,hallmark::app::reload=info")?;
        self.progress(&format!("{} {}", if self.fresh { "made" } else { "using" }, self.sandbox.dir().display()));
        self.provision_token()?;
        let mut signals = Signals::listen(self.args.exit_with_stdin)?;
        self.progress("starting the server, and making keys where there are none");
        let mut running = app::start(&self.config).await.map_err(serve::not_started)?;
        running.reload_from(self.sandbox.config());
        let mut changed = false;
        let ready = tokio::select! {
            ready = running.wait_until_ready(PATIENCE) => ready,
            grace = self.told_to_stop(&mut signals, &mut changed) => return Ok(serve::exit(running.stop(grace).await)),
        };
        ready.map_err(|why| Failure::new("the server did not get ready").because(why))?;
        if changed {
            running.reload().await;
        }
        self.announce(&running)?;
        Ok(serve::until_stopped(running, signals).await)
    }

    /// Until then, notes in `changed` whether the configuration is to be read again.
    async fn told_to_stop(&self, signals: &mut Signals, changed: &mut bool) -> Duration {
        loop {
            match signals.next().await {
                Told::Stop(grace) => return grace,
                Told::Reload => {
                    self.progress("reading the configuration again as soon as the server is ready");
                    *changed = true;
                }
            }
        }
    }

    fn progress(&self, what: &str) {
        if !self.json {
            eprintln!("==> {what}");
        }
    }

    /// A token is there once its serial is written down: an attempt cut short is carried on where it stood.
    fn provision_token(&self) -> Result<(), Failure> {
        let marker = self.sandbox.file("token-serial");
        if marker.exists() {
            return Ok(());
        }
        let hsm = self.config.hsms.first().ok_or_else(|| Failure::new("the configuration has no [[hsm]]"))?;
        // A YubiKey is set up by its owner.
        let Some(pkcs11) = hsm.pkcs11() else { return Ok(()) };
        let io = |error: io::Error| failed("can't set up the SoftHSM token", &error);
        let (so_pin, pin) = (self.sandbox.so_pin().map_err(io)?.into(), self.sandbox.pin().map_err(io)?.into());
        let module = Modules::default().load(&pkcs11.module);
        let module = module.map_err(|error| failed("can't load SoftHSM", &error))?;
        let serial = provision_token(&module, TOKEN_LABEL, &so_pin, &pin);
        let serial = serial.map_err(|error| failed("can't make a SoftHSM token", &error))?;
        fs::write(marker, serial + "\n").map_err(io)
    }

    fn announce(&self, running: &Running) -> Result<(), Failure> {
        self.write_connections(running)?;
        let text = if self.json { self.as_json(running) + "\n" } else { self.as_text(running) };
        let mut out = io::stdout().lock();
        let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        written.map_err(|error| failed("can't write to standard output", &error))
    }

    /// The port may be the system's choice, or another than at the last run.
    fn write_connections(&self, running: &Running) -> Result<(), Failure> {
        let Some(grpc) = running.addresses().grpc else { return Ok(()) };
        for who in ["workload", "operator"] {
            let written = self.sandbox.connection(who, &format!("https://{grpc}"));
            written.map_err(|error| failed("can't write the connection file", &error))?;
        }
        Ok(())
    }

    fn as_json(&self, running: &Running) -> String {
        let addresses = running.addresses();
        let grpc = addresses.grpc.map(|address| format!("https://{address}")).unwrap_or_default();
        let pair =
            |who: &str| json!({"cert": self.path(&format!("{who}.pem")), "key": self.path(&format!("{who}.key"))});
        let client = |client: &Client| {
            json!({
                "name": client.name,
                "client_id": client.client_id,
                "alg": client.default_alg().map(Alg::as_str),
                "jwks_url": running.jwks_url(client),
            })
        };
        let line = json!({
            "grpc": grpc,
            "jwks_listen": addresses.jwks.to_string(),
            "metrics": addresses.metrics.map(|address| address.to_string()),
            "dir": self.sandbox.dir(),
            "ca": self.path("ca.pem"),
            "workload": pair("workload"),
            "operator": pair("operator"),
            "connection": self.path("workload.toml"),
            "operator_connection": self.path("operator.toml"),
            "clients": self.config.clients.iter().map(client).collect::<Vec<_>>(),
        });
        line.to_string()
    }

    fn as_text(&self, running: &Running) -> String {
        let addresses = running.addresses();
        let mut text = String::from("\nHallmark is ready to sign.\n\n");
        if let Some(grpc) = addresses.grpc {
            text.push_str(&format!(
                "  gRPC      https://{grpc} (mTLS; certificates in {})\n",
                self.sandbox.dir().display()
            ));
        }
        for client in &self.config.clients {
            text.push_str(&format!("  JWKS URL  {}\n", running.jwks_url(client)));
        }
        let name = self.config.clients.first().map_or("demo", |client| client.name.as_str());
        let (hallmark, connect) = (program(), self.connection_option());
        text.push_str(&format!(
            "\nTry next, in another terminal:\n\n  {hallmark} sign {name}{connect}\n  {hallmark} jwks {name}{connect}\n\n\
             Ctrl-C stops it; run it again to go on with the same keys.\n"
        ));
        text
    }

    /// Nothing where the CLI finds the connection by itself.
    fn connection_option(&self) -> String {
        let usual = std::path::absolute(".hallmark").is_ok_and(|usual| usual == self.sandbox.dir());
        if usual { String::new() } else { format!(" --connection {}", self.path("workload.toml").display()) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.sandbox.file(name)
    }
}

/// The configuration of a new folder. Where the options make none that is good, no folder stays.
fn made(sandbox: &Sandbox, args: &DevArgs) -> Result<Config, Failure> {
    let was_there = sandbox.dir().exists();
    create(sandbox, args)?;
    config::load(&sandbox.config()).map_err(|error| {
        let removed = if was_there { fs::remove_file(sandbox.config()) } else { fs::remove_dir_all(sandbox.dir()) };
        let hint = match removed {
            Ok(()) => "mend the options; nothing was kept of what they made".to_owned(),
            Err(error) => format!("mend the options, and remove `{}`: {error}", sandbox.dir().display()),
        };
        serve::bad_config(error).hint(hint).with_exit_code(failure::USAGE)
    })
}

fn create(sandbox: &Sandbox, args: &DevArgs) -> Result<(), Failure> {
    let default = DevClient { name: "demo".to_owned(), alg: "RS384".to_owned() };
    let clients = if args.clients.is_empty() { std::slice::from_ref(&default) } else { args.clients.as_slice() };
    let plan = Plan {
        clients,
        token_endpoint: args.token_endpoint.as_deref().unwrap_or(TOKEN_ENDPOINT),
        hsm: &hsm::Hsm::choose(&args.hsm)?,
        ports: if args.ephemeral { [0; 3] } else { PORTS },
    };
    let created = sandbox.create(&plan);
    created.map_err(|error| failed(&format!("can't write to `{}`", sandbox.dir().display()), &error))
}

/// How the person called this program, so that what is printed works when pasted.
fn program() -> String {
    std::env::args().next().unwrap_or_else(|| "hallmark".into())
}

fn failed(what: &str, error: &dyn std::error::Error) -> Failure {
    Failure::new(what).caused_by(error)
}
