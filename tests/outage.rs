//! The token goes away under load and comes back, with nobody's help.

use std::time::{Duration, Instant};

use hallmark_testkit::p11_kit::P11Kit;
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::JoinSet,
};
use tonic::Code;

use crate::{
    hsm_contract::table::{self, Column},
    support::{PATIENCE, Refusal, Server, Site, caller, spy::Spy},
};

/// Its row in `docs/hsm-support.md`.
const P11_KIT: &str = "SoftHSM behind p11-kit";

/// How one request of the load ended.
pub(crate) struct Ended {
    pub(crate) took: Duration,
    pub(crate) at: Instant,
    pub(crate) result: Result<(), Refusal>,
}

/// Callers that sign without pause, each on a connection of its own, until it is dropped.
pub(crate) struct Load {
    ended: UnboundedReceiver<Ended>,
    _callers: JoinSet<()>,
}

impl Load {
    pub(crate) fn start(server: &Server, callers: usize) -> Self {
        let (send, ended) = unbounded_channel();
        let mut tasks = JoinSet::new();
        for _ in 0..callers {
            tasks.spawn(sign_on(server.app(), send.clone()));
        }
        Self { ended, _callers: tasks }
    }

    /// The next request that ended so.
    pub(crate) async fn next(&mut self, wanted: impl Fn(&Ended) -> bool) -> Ended {
        let found = async {
            loop {
                let ended = self.ended.recv().await.expect("the load goes on");
                if wanted(&ended) {
                    return ended;
                }
            }
        };
        tokio::time::timeout(PATIENCE, found).await.expect("a request that ends as expected")
    }
}

async fn sign_on(app: caller::Caller, ended: UnboundedSender<Ended>) {
    loop {
        let began = Instant::now();
        let request = caller::within(Duration::from_secs(5), caller::for_client("demo"));
        let result = app.sign(request).await.map(drop);
        // A caller that is told to wait does; this one is only impatient.
        let pause = result.as_ref().err().map(|_| Duration::from_millis(20));
        if ended.send(Ended { took: began.elapsed(), at: Instant::now(), result }).is_err() {
            return;
        }
        tokio::time::sleep(pause.unwrap_or_default()).await;
    }
}

/// The aim is two seconds; the limit leaves room for a machine that is busy with other tests.
const RETURN_LIMIT: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_returns_signs_again_by_itself() {
    let mut site = Site::new();
    // See hsm-config/p11-kit.md: with more, a call may never return when the server dies.
    site.replace("workers = 2", "workers = 1");
    let env = P11Kit::env(&site.token);
    let spy = Spy::on(&mut site, &P11Kit::module(), &env);
    let mut line = P11Kit::new(&site.token);
    line.start();
    let server = site.start();
    server.ready().await;
    let mut load = Load::start(&server, 4);

    for round in 1..=2 {
        load.next(|ended| ended.result.is_ok()).await;
        line.kill();
        let first = load.next(|ended| ended.result.is_err()).await;
        let lost = first.at;
        let refused = first.result.unwrap_err();
        assert_eq!((refused.code, refused.reason.as_str()), (Code::Unavailable, "HSM_UNAVAILABLE"), "{refused:?}");
        assert!(refused.retry_after.is_some(), "{refused:?}");

        // From now on nobody waits for what can't come.
        for _ in 0..20 {
            let ended = load.next(|ended| ended.at - ended.took > lost).await;
            let refused = ended.result.expect_err("there is no token");
            assert_eq!(refused.reason, "HSM_UNAVAILABLE", "{refused:?}");
            assert!(refused.retry_after.is_some(), "{refused:?}");
            assert!(ended.took < Duration::from_secs(1), "it took {:?} to say so", ended.took);
        }
        assert_eq!(
            server.jwks_of("demo").await["keys"].as_array().unwrap().len(),
            2,
            "verifiers see the keys meanwhile"
        );
        assert_eq!(server.metric(r#"hallmark_hsm_breaker_state{hsm="soft"}"#).await, 1.0);
        assert_eq!(server.health("/readyz/sign").await.0, 503);
        assert_eq!(server.health("/livez").await.0, 200);

        line.start();
        let returned = Instant::now();
        let again = load.next(|ended| ended.at > returned && ended.result.is_ok()).await;
        let took = again.at - returned;
        eprintln!("kill and return, round {round}: {} ms from return to first signature", took.as_millis());
        assert!(took <= RETURN_LIMIT, "{took:?}");
    }
    drop(load);
    assert_eq!(server.health("/readyz/sign").await.0, 200);
    let logins = spy.logins();
    assert!(logins.len() >= 3 && logins.iter().all(|login| login == "CKR_OK"), "{logins:?}");
    server.stop().await;
    let within = RETURN_LIMIT.as_secs();
    table::compare_cell(P11_KIT, Column::Recovery, &format!("line cut and restored: within {within} s"));
    table::compare_cell(P11_KIT, Column::MainJob, "ES256");
}

/// A server may start before its HSM does.
#[tokio::test]
async fn a_server_that_starts_before_its_token() {
    let mut site = Site::new();
    // See hsm-config/p11-kit.md: with more, a call may never return when the server dies.
    site.replace("workers = 2", "workers = 1");
    let env = P11Kit::env(&site.token);
    site.through(&P11Kit::module(), &env);
    let server = site.start();
    let refused = server.app().sign_for("demo").await.unwrap_err();
    assert_eq!(refused.code, Code::FailedPrecondition, "{refused:?}");
    assert_eq!(refused.reason, "NO_ACTIVE_KEY");
    assert_eq!(server.health("/readyz/sign").await.0, 503);

    let mut line = P11Kit::new(&site.token);
    line.start();
    server.ready().await;
    server.app().sign_for("demo").await.unwrap();
}
