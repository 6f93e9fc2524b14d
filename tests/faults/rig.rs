//! A server under load on a token that can be made to fail.

use std::{
    cell::Cell,
    fs::File,
    time::{Duration, Instant, SystemTime},
};

use hallmark_testkit::{
    fault_module::{FaultModule, Function},
    softhsm::SoftHsm,
};

use super::{
    RECOVERY_LIMIT,
    load::{CLIENTS, Load},
};
use crate::support::{PATIENCE, Server, Site, eventually};

/// Dropped in this order: a server that is ended shows its log, which is in the site's folder.
pub(super) struct Rig {
    pub(super) load: Load,
    pub(super) server: Server,
    pub(super) module: FaultModule,
    pub(super) site: Site,
    touched: Cell<u64>,
}

impl Rig {
    /// A server that signs for all [`CLIENTS`], with what `set_up` makes of its configuration.
    pub(super) async fn start(set_up: impl FnOnce(&mut Site)) -> Self {
        let mut site = Site::new();
        let module = FaultModule::new(SoftHsm::MODULE.as_ref());
        site.through(&FaultModule::library(), &module.env());
        for (client, alg) in CLIENTS.iter().filter(|(client, _)| *client != "demo") {
            site.add_client(client, alg, "https://as.example/token");
        }
        set_up(&mut site);
        let server = Self::serve(&site).await;
        let app = server.app();
        for (client, _) in CLIENTS {
            eventually("the clients have keys", PATIENCE, async || app.sign_for(client).await.ok()).await;
        }
        let load = Load::start(&server);
        let rig = Self { load, server, module, site, touched: Cell::default() };
        rig.signs(Instant::now()).await;
        rig
    }

    /// Starts a server, and waits until it signs.
    pub(super) async fn serve(site: &Site) -> Server {
        let server = site.start_with(|command| _ = command.arg("--unsafe-testing"));
        server.ready().await;
        server
    }

    /// Waits until each client has an assertion that was asked for after `since`.
    pub(super) async fn signs(&self, since: Instant) {
        let what = "each client signs";
        eventually(what, PATIENCE, async || self.load.all_signed_since(since).then_some(())).await;
    }

    /// Has calls fail by `plan` until some have at `function`, and then no more; how long it took until each client got
    /// an assertion again.
    pub(super) async fn round(&self, plan: &str, function: Function) -> Duration {
        self.fail(plan, function).await;
        let recovery = self.recover(plan).await;
        assert!(recovery <= RECOVERY_LIMIT, "{plan}: it took {recovery:?} to sign again");
        recovery
    }

    /// Has calls fail by `plan` until some have at `function`. The JWKS stays up meanwhile.
    pub(super) async fn fail(&self, plan: &str, function: Function) {
        let before = self.module.seen(function).faults;
        self.module.set(plan);
        let began = Instant::now();
        let many = async || {
            let met = self.module.seen(function).faults - before;
            (met >= ENOUGH || met > 0 && began.elapsed() > LONG_ENOUGH).then_some(())
        };
        eventually(&format!("a call fails: {plan}"), PATIENCE, many).await;
        for (client, _) in CLIENTS {
            let keys = self.server.jwks_of(client).await["keys"].as_array().map(Vec::len);
            assert_eq!(keys, Some(2), "{plan}: the JWKS of {client}");
        }
    }

    /// Ends the faults; how long it took until each client got an assertion again.
    pub(super) async fn recover(&self, plan: &str) -> Duration {
        self.module.heal();
        let healed = Instant::now();
        self.signs(healed).await;
        let recovery = healed.elapsed();
        self.load.refused(plan);
        recovery
    }

    /// Waits until the service has asked the library so often for slots: it does so with each try to connect, twice.
    pub(super) async fn tries_to_connect(&self, times: u64) {
        let asked = || self.module.seen(Function::C_GetSlotList).calls;
        let before = asked();
        let what = "the service tries to connect";
        eventually(what, PATIENCE, async || (asked() >= before + 2 * times).then_some(())).await;
    }

    /// No login ended other than well, but for those in which the session was lost, and no two of these in a row: how the
    /// try of a PIN ended is not known then.
    pub(super) fn no_pin_was_at_risk(&self) {
        let logins = self.module.logins();
        let well = |login: &String| ["CKR_OK", "CKR_USER_ALREADY_LOGGED_IN"].contains(&login.as_str());
        let lost = |login: &String| ["CKR_SESSION_HANDLE_INVALID", "CKR_DEVICE_REMOVED"].contains(&login.as_str());
        assert!(logins.iter().all(|login| well(login) || lost(login)), "{logins:?}");
        assert!(logins.windows(2).all(|two| two.iter().any(well)), "{logins:?}");
    }

    /// As an operator would who finds the PIN right.
    pub(super) fn touch_pin(&self) {
        let file = File::options().append(true).open(self.site.token.pin_file()).unwrap();
        // A time that differs for certain.
        self.touched.set(self.touched.get() + 1);
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(self.touched.get())).unwrap();
    }

    /// What a supervisor does once the process has ended.
    pub(super) async fn restart(self) -> Self {
        let Self { load, server, module, site, touched } = self;
        drop((load, server));
        let server = Self::serve(&site).await;
        let rig = Self { load: Load::start(&server), server, module, site, touched };
        rig.signs(Instant::now()).await;
        rig
    }

    /// Ends it in order, and looks at its log.
    pub(super) async fn stop(self) {
        let Self { server, load, site, module, .. } = self;
        drop(load);
        let log = server.log();
        assert!(!log.contains("panicked"), "{log}");
        server.stop().await;
        drop((site, module));
    }
}

/// So many failures of calls are enough for a round,
const ENOUGH: u64 = 6;
/// and one is, after this time.
const LONG_ENOUGH: Duration = Duration::from_millis(100);
