//! How a command reaches what it asks for: a running server, or, with none running, the data folder itself,
//! opened by the same roles inside this process.

use std::path::Path;

use crate::admin::client::Client;
use crate::cli::Place;
use crate::config::{Config, JournalKind};
use crate::exit::{Failure, Outcome};
use crate::roles::{Roles, Running};
use crate::secrets::{self, Secret};

/// File in the data folder that names a running server's admin address.
pub(crate) const ADDRESS_FILE: &str = "admin.address";

/// An open door; roles started for it stop with [`Door::close`].
pub(crate) struct Door {
    pub(crate) client: Client,
    local: Option<Running>,
}

impl Door {
    /// Finds the running server, or opens the folder.
    pub(crate) async fn open(place: &Place) -> Outcome<Self> {
        let config = Config::load(&place.data, place.config.as_deref())?;
        if let Some(server) = &place.server {
            let token = token(place, &config)?;
            return Ok(Self { client: Client::new(server, token), local: None });
        }
        if let Some(address) = address(&config.data) {
            let client = Client::new(&format!("http://{address}"), token(place, &config)?);
            if client.answers().await {
                return Ok(Self { client, local: None });
            }
        }
        if config.journal.kind == JournalKind::Kafka {
            return Err(Failure::no_server(
                "no server answers: start `bursar ledger` (or `bursar query`) and name it with --server http://ADDRESS",
            ));
        }
        if !config.data.join("journal").exists() {
            return Err(Failure::no_server(format!(
                "no server answers and {} holds no journal: start one with `bursar up`, or name it with --server",
                config.data.display()
            )));
        }
        let running = Running::start(&config, Roles::FOLDER).await?;
        let token = running.local_token();
        let client = Client::new(&format!("http://{}", running.admin_address()), token);
        Ok(Self { client, local: Some(running) })
    }

    /// Stops what was started for it.
    pub(crate) async fn close(self) -> Outcome {
        match self.local {
            Some(running) => running.stop().await,
            None => Ok(()),
        }
    }
}

fn address(data: &Path) -> Option<String> {
    let text = std::fs::read_to_string(data.join(ADDRESS_FILE)).ok()?;
    Some(text.trim().to_owned()).filter(|address| !address.is_empty())
}

fn token(place: &Place, config: &Config) -> Outcome<Secret> {
    let token = match (&place.token_file, std::env::var("BURSAR_TOKEN")) {
        (Some(file), _) => secrets::resolve(&format!("file:{}", file.display()), Path::new("")),
        (None, Ok(token)) if !token.is_empty() => Ok(Secret::new(token)),
        (None, _) => secrets::resolve(&config.deployment.admin_token, &config.data),
    };
    token.map_err(|error| {
        Failure::usage(error.context("failed to find the admin token (--token-file, BURSAR_TOKEN)"))
    })
}
