//! `portcullis admin create`: an account made by whoever has the machine.

use clap::Args;
use portcullis_domain::accounts::Role;

use crate::{
    app::{App, accounts::NewUser},
    cli::{Configuration, new_password, open},
    clock::Clock,
    error::Failure,
};

/// Makes an account in the database of this configuration. A server may be running on it.
#[derive(Args)]
pub struct Create {
    /// The e-mail address to sign in with
    #[arg(long)]
    email: String,
    /// The name shown to people
    #[arg(long)]
    name: String,
    /// Make a Super Admin, who can manage credentials
    #[arg(long)]
    super_admin: bool,
    /// Read the password from the first line of standard input instead of asking for it
    #[arg(long)]
    password_stdin: bool,
    #[command(flatten)]
    configuration: Configuration,
}

impl Create {
    /// Makes the account.
    ///
    /// # Errors
    /// All that is wrong with what was given.
    pub async fn run(self) -> Result<(), String> {
        let config = self.configuration.load()?;
        let password = new_password(self.password_stdin)?;
        let clock = Clock::system();
        let store = open::open(&config, &clock).await?.store;
        let app = App::start(store, clock, config).await.map_err(|f| f.to_string())?;
        let role = if self.super_admin { Role::SuperAdmin } else { Role::User };
        let made = app.create_user(NewUser { email: self.email, name: self.name, password }, role).await;
        let user = made.map_err(|failure| match failure {
            Failure::Invalid(fields) => fields
                .iter()
                .map(|i| format!("{}: {}", i.field, i.message))
                .collect::<Vec<_>>()
                .join("\n            "),
            other => other.to_string(),
        })?;
        app.store.close().await;
        println!("{} {} can sign in now.", role.label(), user.email.as_str());
        Ok(())
    }
}
