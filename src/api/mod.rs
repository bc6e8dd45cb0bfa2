//! The JSON interface: management under `/api`, self-service with the caller's own key under `/v1`.
//!
//! Promises: every route is in one table ([`routes`]), from which the router and `/openapi.json` are made;
//! every failure is a refusal of the catalogue; a body with a field that is not known is refused by name.
//! Must never: hold a rule (they are in the directory, the ladder and the ledger), show a credential, or tell
//! a caller of anybody else's call that it exists.

mod access;
mod accounts;
mod announcements;
mod appeals;
mod audit;
mod billing;
mod callbacks;
mod channels;
mod codes;
mod corrections;
mod credits;
mod download;
mod focus;
mod groups;
pub mod images;
mod import;
pub mod json;
mod keys;
mod limits;
mod margins;
mod master_key;
mod members;
mod models;
mod notices;
mod once;
mod openapi;
mod operators;
mod orders;
mod organizations;
mod own;
mod payment_providers;
mod policies;
mod prices;
mod problem;
mod projects;
mod reconcile;
mod reports;
mod requests;
mod resource;
mod route;
mod serve;
mod shape;
mod statements;
mod task_lane;
mod tasks;
mod topups;
mod transcripts;
mod upkeep;
pub mod videos;

pub use access::Principal;
pub use credits::book;
pub use download::RESUMED_AT;
pub use images::shown as shown_task;
pub use problem::Problem;
pub use route::Route;
pub use serve::{ApiError, Site, identify, language_of, router};
pub use shape::{Shape, ShapeError};

/// Whether a successful answer is what its route says; for tests. Addresses outside of the table have no shape.
pub fn check_answer(method: &str, path: &str, body: &serde_json::Value) -> Result<(), String> {
    let Some(route) = routes().find(|route| route.method.as_str() == method && serve::fits(route.path, path))
    else {
        return Ok(());
    };
    let check = |shape: &Shape, value: &serde_json::Value| {
        shape.check(value, false).map_err(|why| format!("{why:?}"))
    };
    match route.answer {
        route::Answer::One(shape) => check(shape, body),
        // The other form of it is text.
        route::Answer::File(_) if body.is_string() => Ok(()),
        route::Answer::File(shape) => check(shape, body),
        route::Answer::Page(shape) => {
            let rows = body["data"].as_array().ok_or("no data")?;
            rows.iter().try_for_each(|row| check(shape, row))
        }
    }
}

/// Those for roles.
static MANAGEMENT: &[&[Route]] = &[
    accounts::ROUTES,
    credits::ROUTES,
    statements::ROUTES,
    topups::ROUTES,
    orders::ROUTES,
    payment_providers::ROUTES,
    codes::ROUTES,
    corrections::ROUTES,
    tasks::ROUTES,
    keys::ROUTES,
    models::ROUTES,
    prices::ROUTES,
    channels::ROUTES,
    master_key::ROUTES,
    import::ROUTES,
    groups::ROUTES,
    organizations::ROUTES,
    projects::ROUTES,
    members::ROUTES,
    policies::ROUTES,
    audit::ROUTES,
    appeals::ROUTES,
    announcements::ROUTES,
    operators::ROUTES,
    notices::ROUTES,
    reports::ROUTES,
    focus::ROUTES,
    margins::ROUTES,
    requests::ROUTES,
    transcripts::ROUTES,
    upkeep::ROUTES,
    reconcile::ROUTES,
];

/// Those for callers whose part of the interface has management routes, too.
static OWN: [&[Route]; 2] = [&statements::OWN_ROUTES, &topups::OWN_ROUTES];

/// Every route of the JSON interface.
pub fn routes() -> impl Iterator<Item = &'static Route> {
    let lanes = videos::ROUTES.into_iter().chain(images::ROUTES);
    let own = own::ROUTES.into_iter().chain(lanes).chain(billing::ROUTES).chain(OWN);
    MANAGEMENT.iter().copied().chain(own).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::identify::{Destination, destination};

    /// An address of the table below the version segment is one that the gateway hands on.
    #[test]
    fn every_address_of_a_caller_is_reached_through_the_gateway() {
        let own: Vec<_> = routes().filter(|route| route.path.contains("/v1/")).collect();
        assert!(own.len() > 10);
        for route in own {
            let path = route.path.replace("{id}", "some_1");
            assert!(!path.contains('{'), "{path}");
            let method = http::Method::from_bytes(route.method.as_str().as_bytes()).unwrap();
            let to = destination(&method, &path, "http://gateway.test");
            let is_handed_on = matches!(to, Ok(Destination::Elsewhere | Destination::Content(..)));
            assert!(is_handed_on, "{path} is not served: {to:?}");
        }
    }
}
