//! What people are given beside the fields and documents of a registration: a mail to send, a row for a database. Texts
//! with placeholders such as `{jwks_url}`, which [`crate::registration`] fills in.

use super::{How, Profile};

/// Something to hand to people, under a title of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handout {
    pub title: &'static str,
    pub body: HandoutBody,
}

/// What it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandoutBody {
    Text(&'static str),
    /// Another way to register.
    Registration(How),
}

impl Profile {
    /// What `register` prints beside what [`Profile::registration`] asks for.
    pub fn handouts(&self) -> &'static [Handout] {
        HANDOUTS.iter().find(|(name, _)| *name == self.name).map_or(&[], |(_, handouts)| handouts)
    }

    /// The name of each profile that has handouts.
    #[cfg(test)]
    pub(crate) fn with_handouts() -> impl Iterator<Item = &'static str> {
        HANDOUTS.iter().map(|(name, _)| *name)
    }
}

const HANDOUTS: &[(&str, &[Handout])] = &[
    (
        "webchart",
        &[
            Handout {
                title: "versions of 2026: post this to `/register` below the base of the token endpoint (--post --url URL)",
                body: HandoutBody::Registration(How::Document {
                    auth_method: Some("private_key_jwt"),
                    signing_alg: false,
                    redirect_uris: false,
                    members: &[("grant_types", "[\"client_credentials\"]")],
                }),
            },
            Handout {
                title: "or, for whoever keeps its database: a row of the table `login_trusts` that names the JWKS URL",
                body: HandoutBody::Text(
                    "key_format       JWKS\n\
                     login_fail_url   {jwks_url}\n\
                     domain           {client_id}\n\
                     allowed_options  8388608\n",
                ),
            },
        ],
    ),
    (
        "ecw-healow",
        &[Handout {
            title: "mail this to the support of eClinicalWorks",
            body: HandoutBody::Text(
                "Subject: JWKS URL of the backend app {client_name}\n\
                 \n\
                 Hello,\n\
                 \n\
                 please put the JWKS URL of our backend app on the list of those that your authorization server\n\
                 fetches, and activate the app for the practices below.\n\
                 \n\
                 App:             {client_name}\n\
                 Client ID:       {client_id}\n\
                 JWKS URL:        {jwks_url}\n\
                 Algorithm:       {alg}\n\
                 Key ID (kid):    {kid} (today's: keys are replaced now and then, at the same URL)\n\
                 Token endpoint:  {token_endpoint}\n\
                 Scopes:          {scope}\n\
                 Practices:       (names and practice codes)\n\
                 \n\
                 The URL is open to everyone: no authentication, no redirect, `application/json`. Could you tell us for\n\
                 how long your servers keep what they fetched there, so that we replace keys in good time?\n\
                 \n\
                 Contact: {contacts}\n",
            ),
        }],
    ),
];
