//! Envoy's response flags: the short and long names operators grep for.

use smallvec::SmallVec;

macro_rules! flags {
    ($($flag:ident $short:literal $long:literal;)*) => {
        /// Why a request or connection did not simply succeed, in Envoy's vocabulary (`%RESPONSE_FLAGS%`).
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Flag {
            $(#[doc = $long] $flag,)*
        }

        impl Flag {
            /// `%RESPONSE_FLAGS%`.
            pub(crate) fn short(self) -> &'static str {
                match self { $(Self::$flag => $short,)* }
            }

            /// `%RESPONSE_FLAGS_LONG%`.
            pub(crate) fn long(self) -> &'static str {
                match self { $(Self::$flag => $long,)* }
            }
        }
    };
}

flags! {
    Dc "DC" "DownstreamConnectionTermination";
    Dr "DR" "DownstreamRemoteReset";
    Dpe "DPE" "DownstreamProtocolError";
    Dt "DT" "DurationTimeout";
    Nc "NC" "NoClusterFound";
    Nr "NR" "NoRouteFound";
    Si "SI" "StreamIdleTimeout";
    Uc "UC" "UpstreamConnectionTermination";
    Uf "UF" "UpstreamConnectionFailure";
    Uh "UH" "NoHealthyUpstream";
    Uo "UO" "UpstreamOverflow";
    Upe "UPE" "UpstreamProtocolError";
    Ur "UR" "UpstreamRemoteReset";
    Urx "URX" "UpstreamRetryLimitExceeded";
    Ut "UT" "UpstreamRequestTimeout";
}

/// The flags of one record, in the order they were set, as Envoy prints them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Flags(SmallVec<[Flag; 2]>);

impl Flags {
    /// Adds a flag that is not there yet.
    pub(crate) fn set(&mut self, flag: Flag) {
        if !self.0.contains(&flag) {
            self.0.push(flag);
        }
    }

    /// In the order they were set.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Flag> + '_ {
        self.0.iter().copied()
    }
}
