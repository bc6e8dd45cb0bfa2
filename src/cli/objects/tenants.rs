//! Organizations, projects and members: how the users of the gateway are arranged.

use clap::{Args, Subcommand};
use serde_json::Map;

use crate::cli::{Context, Done};

use super::args::{LimitFields, SwitchFields, put, put_found, put_or_clear};
use super::operators::TokenArgs;
use super::{ACCOUNT, MEMBER, ORGANIZATION, PROJECT};

#[derive(Debug, Subcommand)]
pub enum Organizations {
    /// Every organization.
    List,
    /// One organization, by id or name.
    Show { organization: String },
    /// Make an organization.
    Create {
        name: String,
        #[command(flatten)]
        fields: OrganizationFields,
    },
    /// Change what is named of an organization.
    Edit {
        /// Id or name.
        organization: String,
        #[arg(long)]
        name: Option<String>,
        /// Refuse if the organization is not at this version any more.
        #[arg(long, value_name = "VERSION")]
        if_version: Option<u64>,
        #[command(flatten)]
        fields: OrganizationFields,
    },
}

#[derive(Debug, Args)]
pub struct OrganizationFields {
    /// Id or name of the organization above; none makes it a root.
    #[arg(long)]
    parent: Option<String>,
    /// IANA time zone in which its budgets' days and months begin.
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<String>,
    #[command(flatten)]
    switches: SwitchFields,
    #[command(flatten)]
    limits: LimitFields,
}

#[derive(Debug, Subcommand)]
pub enum Projects {
    /// Every project.
    List {
        /// Only projects of this account, by id or e-mail.
        #[arg(long)]
        account: Option<String>,
    },
    /// One project with the use of its limits.
    Show { project: String },
    /// Make a project.
    Create {
        /// Id or e-mail of the account that pays.
        account: String,
        #[arg(long)]
        name: String,
        #[command(flatten)]
        limits: LimitFields,
    },
    /// Change what is named of a project.
    Edit {
        project: String,
        #[arg(long)]
        name: Option<String>,
        /// running, paused or archived.
        #[arg(long)]
        status: Option<String>,
        /// What it owes; its keys are refused until that is 0.
        #[arg(long, value_name = "AMOUNT")]
        arrears: Option<String>,
        #[command(flatten)]
        limits: LimitFields,
        /// Refuse if the project is not at this version any more.
        #[arg(long, value_name = "VERSION")]
        if_version: Option<u64>,
    },
}

#[derive(Debug, Subcommand)]
pub enum Members {
    /// Every member and service account.
    List {
        /// Only members of this account, by id or e-mail.
        #[arg(long)]
        account: Option<String>,
    },
    /// One member with the use of its limits.
    Show { member: String },
    /// Make a member or a service account.
    Create {
        /// Id or e-mail of the account.
        account: String,
        #[arg(long)]
        name: String,
        /// It stands for a program.
        #[arg(long)]
        service_account: bool,
        #[command(flatten)]
        fields: MemberFields,
    },
    /// Give a member a new access token, printed this once.
    Token(TokenArgs),
    /// Change what is named of a member.
    Edit {
        member: String,
        #[arg(long)]
        name: Option<String>,
        /// Refuse if the member is not at this version any more.
        #[arg(long, value_name = "VERSION")]
        if_version: Option<u64>,
        #[command(flatten)]
        fields: MemberFields,
    },
}

#[derive(Debug, Args)]
pub struct MemberFields {
    /// Address of a person; none clears it.
    #[arg(long)]
    email: Option<String>,
    /// owner, admin, finance, developer or viewer.
    #[arg(long)]
    role: Option<String>,
    #[command(flatten)]
    limits: LimitFields,
}

pub fn organizations(context: &mut Context, command: Organizations) -> Done {
    let (edited, name, if_version, fields) = match command {
        Organizations::List => return ORGANIZATION.list(context, "limit=1000"),
        Organizations::Show { organization } => return ORGANIZATION.show(context, &organization),
        Organizations::Create { name, fields } => (None, Some(name), None, fields),
        Organizations::Edit { organization, name, if_version, fields } => {
            (Some(organization), name, if_version, fields)
        }
    };
    let client = context.client()?;
    let mut body = Map::new();
    put(&mut body, "name", name);
    put(&mut body, "version", if_version);
    put_found(&mut body, "parent", fields.parent, |parent| ORGANIZATION.id(&client, parent))?;
    put(&mut body, "time_zone", fields.time_zone);
    fields.switches.put(&mut body);
    fields.limits.put(&mut body)?;
    match edited {
        None => ORGANIZATION.create(context, &client, body),
        Some(organization) => ORGANIZATION.edit(context, &client, &organization, body),
    }
}

pub fn projects(context: &mut Context, command: Projects) -> Done {
    let client = context.client()?;
    let mut body = Map::new();
    match command {
        Projects::List { account } => match account {
            None => PROJECT.list_by(context, &client, "limit=1000"),
            Some(account) => {
                let query = format!("limit=1000&account={}", ACCOUNT.id(&client, &account)?);
                PROJECT.list_by(context, &client, &query)
            }
        },
        Projects::Show { project } => PROJECT.show_by(context, &client, &project),
        Projects::Create { account, name, limits } => {
            put(&mut body, "account", Some(ACCOUNT.id(&client, &account)?));
            put(&mut body, "name", Some(name));
            limits.put(&mut body)?;
            PROJECT.create(context, &client, body)
        }
        Projects::Edit { project, name, status, arrears, limits, if_version } => {
            put(&mut body, "name", name);
            put(&mut body, "status", status);
            put(&mut body, "arrears", arrears);
            put(&mut body, "version", if_version);
            limits.put(&mut body)?;
            PROJECT.edit(context, &client, &project, body)
        }
    }
}

pub fn members(context: &mut Context, command: Members) -> Done {
    let client = context.client()?;
    let mut body = Map::new();
    let edited = match command {
        Members::List { account: None } => return MEMBER.list_by(context, &client, "limit=1000"),
        Members::List { account: Some(account) } => {
            let query = format!("limit=1000&account={}", ACCOUNT.id(&client, &account)?);
            return MEMBER.list_by(context, &client, &query);
        }
        Members::Show { member } => return MEMBER.show_by(context, &client, &member),
        Members::Token(token) => return token.issue(context, &client, "members"),
        Members::Create { account, name, service_account, fields } => {
            put(&mut body, "account", Some(ACCOUNT.id(&client, &account)?));
            put(&mut body, "name", Some(name));
            put(&mut body, "kind", service_account.then_some("service_account"));
            (None, fields)
        }
        Members::Edit { member, name, if_version, fields } => {
            put(&mut body, "name", name);
            put(&mut body, "version", if_version);
            (Some(member), fields)
        }
    };
    let (edited, fields) = edited;
    put_or_clear(&mut body, "email", fields.email);
    put(&mut body, "role", fields.role);
    fields.limits.put(&mut body)?;
    match edited {
        None => MEMBER.create(context, &client, body),
        Some(member) => MEMBER.edit(context, &client, &member, body),
    }
}
