//! The integration tests: one binary, a module per part.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends where it cannot go on"
)]

mod alerts;
mod allocations;
mod announcements;
mod api;
mod authorization;
mod bodies;
mod books_torture;
mod catalogue;
mod channel_credit;
mod channel_opening;
mod channels;
mod channels_bill;
mod cli;
mod codes;
mod console;
mod corrections;
mod costs;
mod counting;
mod demo;
mod directory;
mod durability;
mod endpoints;
mod expiry;
mod explain;
mod formats;
mod formats_broken;
mod gateway;
mod gateway_address;
mod gateway_key;
mod gateway_model;
mod gateway_money;
mod gateway_policy;
mod gateway_rate;
mod gateway_stream;
mod gateway_tenants;
mod idempotency;
mod idempotency_posts;
mod interrupt;
mod ladder;
mod margins;
mod master_key;
mod metering;
mod nodes;
mod notices;
mod notices_api;
mod notices_mail;
mod notices_retention;
mod orders;
mod orders_back;
mod orders_check;
mod orders_china;
mod orders_crash;
mod orders_libraries;
mod orders_random;
mod orders_refunds;
mod orders_stripe;
mod reconcile;
mod reconcile_cases;
mod reconcile_files;
mod reconcile_tasks;
mod sdk;
mod second_person;
mod statements;
mod statements_scale;
mod store;
mod store_journal;
mod store_power;
mod store_tls;
mod support;
mod tasks;
mod tasks_again;
mod tasks_attempts;
mod tasks_images;
mod tasks_mapped;
mod tasks_owners;
mod topups;
mod torture;
mod torture_tasks;
mod upstream;
mod verify;
