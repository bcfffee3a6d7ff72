//! Attaches the taps. Every attachment is a link that ends with this process.

use std::os::fd::BorrowedFd;

use aya::programs::{
    CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, ProgramError, RawTracePoint, SockOps,
};
use thiserror::Error;

use super::load::KernelHalf;
use crate::explain::explain;
use crate::tap::Tap;

/// Why a tap is not attached.
#[derive(Debug, Error)]
pub enum AttachError {
    #[error(
        "cannot attach the {} tap ({program}): {source}\n\
         `resumetry doctor` shows what this host allows; --taps chooses what is attached",
        tap.as_str()
    )]
    Program {
        tap: Tap,
        program: &'static str,
        source: ProgramError,
    },
    #[error(
        "the kernel refuses a probe in a library ({program}): {source}\n\
         from Linux 6.16 on, and in older kernels with that change, it places them for CAP_SYS_ADMIN \
         only. Grant it as well for reasons from inside the library and CPU time; the wire tap needs \
         it not"
    )]
    Uprobe {
        program: &'static str,
        source: ProgramError,
    },
    #[error("the embedded object lacks {0}; this binary was built wrongly")]
    Missing(&'static str),
}

impl AttachError {
    /// What happened, without the way out.
    pub fn reason(&self) -> String {
        match self {
            Self::Program { source, .. } | Self::Uprobe { source, .. } => explain(source),
            Self::Missing(_) => self.to_string(),
        }
    }
}

impl KernelHalf {
    /// Attaches the wire tap to a cgroup2 directory and everything below it.
    ///
    /// # Errors
    /// [`AttachError::Program`] with the kernel's reason.
    pub fn attach_wire(&mut self, cgroup: BorrowedFd<'_>) -> Result<(), AttachError> {
        self.attach_pair(cgroup, ["wire_ingress", "wire_egress"])
    }

    /// Attaches, in place of the wire tap, programs that do nothing: what they cost is the price
    /// of the hook.
    ///
    /// # Errors
    /// [`AttachError::Program`] with the kernel's reason.
    pub fn attach_empty_pair(&mut self, cgroup: BorrowedFd<'_>) -> Result<(), AttachError> {
        let pair = ["empty_ingress", "empty_egress"];
        for program in pair {
            let skb: &mut CgroupSkb = self.program(Tap::Wire, program)?;
            skb.load().map_err(failed(Tap::Wire, program))?;
        }
        self.attach_pair(cgroup, pair)
    }

    fn attach_pair(
        &mut self,
        cgroup: BorrowedFd<'_>,
        [ingress, egress]: [&'static str; 2],
    ) -> Result<(), AttachError> {
        let sides = [
            (ingress, CgroupSkbAttachType::Ingress),
            (egress, CgroupSkbAttachType::Egress),
        ];
        for (program, side) in sides {
            let skb: &mut CgroupSkb = self.program(Tap::Wire, program)?;
            // As a link, `Single` shares the hook with other programs; nobody is displaced.
            skb.attach(cgroup, side, CgroupAttachMode::Single)
                .map_err(failed(Tap::Wire, program))?;
        }
        Ok(())
    }

    /// Attaches the socket tap to a cgroup2 directory and everything below it.
    ///
    /// # Errors
    /// [`AttachError::Program`] with the kernel's reason.
    pub fn attach_socket(&mut self, cgroup: BorrowedFd<'_>) -> Result<(), AttachError> {
        let program = "tcp_established";
        let ops: &mut SockOps = self.program(Tap::Socket, program)?;
        ops.load().map_err(failed(Tap::Socket, program))?;
        ops.attach(cgroup, CgroupAttachMode::Single)
            .map_err(failed(Tap::Socket, program))?;
        Ok(())
    }

    /// Attaches the tracepoint that tells of new programs. The library tap works without it, later.
    ///
    /// # Errors
    /// [`AttachError::Program`] with the kernel's reason.
    pub fn attach_exec(&mut self) -> Result<(), AttachError> {
        let program = "process_exec";
        let tracepoint: &mut RawTracePoint = self.program(Tap::Library, program)?;
        tracepoint.load().map_err(failed(Tap::Library, program))?;
        tracepoint
            .attach("sched_process_exec")
            .map_err(failed(Tap::Library, program))?;
        Ok(())
    }

    pub(super) fn program<'a, P>(
        &'a mut self,
        tap: Tap,
        name: &'static str,
    ) -> Result<&'a mut P, AttachError>
    where
        &'a mut P: TryFrom<&'a mut aya::programs::Program, Error = ProgramError>,
    {
        self.ebpf
            .program_mut(name)
            .ok_or(AttachError::Missing(name))?
            .try_into()
            .map_err(failed(tap, name))
    }
}

pub(super) fn failed(tap: Tap, program: &'static str) -> impl FnOnce(ProgramError) -> AttachError {
    move |source| AttachError::Program {
        tap,
        program,
        source,
    }
}
