//! Alarms as the service sees them: which are active stands in the routing table, and who acknowledges
//! them asks the controller, which stands above the service.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::core::cluster::alarms::{AckAlarms, Alarm};
use crate::types::clock::Instant;
use crate::types::{Error, Reason};

/// Reaches the controller.
pub trait AlarmControl: Send + Sync + 'static {
    /// Ends alarms; answers those that are still active.
    ///
    /// # Errors
    /// `InvalidArgument` if an alarm never was; what the controller's group answers.
    fn acknowledge(
        &self,
        which: AckAlarms,
        deadline: Instant,
    ) -> BoxFuture<'static, Result<Vec<Alarm>, Error>>;
}

/// For a service without a cluster around it.
#[derive(Debug, Default, Clone, Copy)]
pub struct NoController;

impl AlarmControl for NoController {
    fn acknowledge(
        &self,
        _which: AckAlarms,
        _deadline: Instant,
    ) -> BoxFuture<'static, Result<Vec<Alarm>, Error>> {
        std::future::ready(Err(Reason::NotReady.into())).boxed()
    }
}
