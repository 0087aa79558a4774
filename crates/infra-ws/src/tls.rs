//! TLS by rustls, with ring as its cryptography (feature `tls`).

use std::{io, sync::Arc};

use infra_core::{Error, ErrorKind, Result};
use parking_lot::RwLock;
use tokio::net::TcpListener;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

use crate::{app::App, hub::Hub, listener::accept};

const READ: &str = "read certificate";

/// A certificate with its key, as clients are shown it; cheap to clone, all clones are one.
///
/// ```no_run
/// # async fn run(hub: std::sync::Arc<infra_ws::Hub>, app: std::sync::Arc<impl infra_ws::App>)
/// # -> Result<(), Box<dyn std::error::Error>> {
/// use infra_ws::tls::{Certificate, serve};
///
/// let certificate = Certificate::from_pem(&std::fs::read("chain.pem")?, &std::fs::read("key.pem")?)?;
/// let listener = tokio::net::TcpListener::bind("0.0.0.0:443").await?;
/// serve(listener, &certificate, hub, app).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Certificate(Arc<RwLock<TlsAcceptor>>);

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Certificate")
    }
}

impl Certificate {
    /// Reads a chain, the server's own certificate first, and its private key, both in PEM.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] if they are not of that form, or do not belong together.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self> {
        Ok(Self(Arc::new(RwLock::new(acceptor(chain, key)?))))
    }

    /// Takes another certificate, such as the next one of an authority that renews by itself; open
    /// connections go on with the one before.
    ///
    /// # Errors
    ///
    /// As for [`from_pem`](Self::from_pem); then the one before stays.
    pub fn renew(&self, chain: &[u8], key: &[u8]) -> Result<()> {
        *self.0.write() = acceptor(chain, key)?;
        Ok(())
    }
}

fn acceptor(chain: &[u8], key: &[u8]) -> Result<TlsAcceptor> {
    let invalid = |what| Error::new(ErrorKind::Invalid, READ).detail(what);
    let chain: Vec<_> = CertificateDer::pem_slice_iter(chain)
        .collect::<Result<_, _>>()
        .map_err(|_| invalid("the chain is not PEM"))?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| invalid("the key is not PEM"))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|cause| Error::new(ErrorKind::Internal, READ).because(cause))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|cause| invalid("they are no pair").because(cause))?;
    // A WebSocket begins as HTTP/1.1; a client that would rather speak HTTP/2 must know.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Accepts connections over TLS, as [`serve`](crate::serve) does without; both handshakes together
/// must be done within the hub's deadline.
///
/// # Errors
///
/// As for [`serve`](crate::serve).
///
/// # Cancel safety
///
/// As for [`serve`](crate::serve).
pub async fn serve<A: App>(
    listener: TcpListener,
    certificate: &Certificate,
    hub: Arc<Hub>,
    app: Arc<A>,
) -> io::Result<()> {
    accept(listener, hub, app, |socket| certificate.0.read().accept(socket)).await
}
