//! What piv-authenticator runs on: Trussed, in this thread, with the system's randomness.
//!
//! `trussed::virt` has a ready one, whose random numbers are the same after each start, and whose thread looks for work
//! once in a millisecond.

use std::{cell::RefCell, rc::Rc};

use rand_core::OsRng;
use trussed::{
    ClientImplementation,
    pipe::{ServiceEndpoint, TrussedChannel},
    platform::{Platform, Syscall},
    service::Service,
    types::CoreContext,
    virt::{Store, UserInterface},
};

use super::backends::{BACKENDS, Backend, Context, Dispatch};

/// What an application of Trussed talks to.
pub(super) type Client<'a> = ClientImplementation<'a, Call<'a>, Dispatch>;

/// The one client of a new service over `store`. `None` where Trussed refuses.
pub(super) fn client(store: Store<'_>) -> Option<Client<'_>> {
    // One a process; it has to outlive the client.
    let channel: &'static TrussedChannel = Box::leak(Box::default());
    let (requester, responder) = channel.split()?;
    let endpoint = ServiceEndpoint::new(responder, CoreContext::new("piv".try_into().ok()?), BACKENDS);
    let chip = Chip { store, user: UserInterface::new(), random: OsRng };
    let service = Service::with_dispatch(chip, Dispatch::new());
    let call = Call(Rc::new(RefCell::new((service, [endpoint]))));
    Some(Client::new(requester, call, None))
}

/// Serves what was asked, at once.
pub(super) struct Call<'a>(Rc<RefCell<Served<'a>>>);

type Served<'a> = (Service<Chip<'a>, Dispatch>, [ServiceEndpoint<'a, Backend, Context>; 1]);

impl Syscall for Call<'_> {
    fn syscall(&mut self) {
        let (service, endpoints) = &mut *self.0.borrow_mut();
        service.process(endpoints);
    }
}

pub(super) struct Chip<'a> {
    store: Store<'a>,
    user: UserInterface,
    random: OsRng,
}

impl<'a> Platform for Chip<'a> {
    type R = OsRng;
    type S = Store<'a>;
    type UI = UserInterface;

    fn rng(&mut self) -> &mut OsRng {
        &mut self.random
    }

    fn store(&self) -> Store<'a> {
        self.store
    }

    fn user_interface(&mut self) -> &mut UserInterface {
        &mut self.user
    }
}
