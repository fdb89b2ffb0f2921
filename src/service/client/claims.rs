//! Which claims of a token say what, and the names that an application server knows them by.

use crate::transport::Identity;

/// The claims of a client as an application server is to see them, in the token's order. A server's library shortens well-known names
/// when it writes a token, and does not reverse that: hub code looks for the long ones.
pub(crate) fn for_server(identity: &Identity) -> Vec<(&str, &str)> {
    // a name that the hub was told to look for stays as it is
    let kept = [identity.claim(NAME_TYPE), identity.claim(ROLE_TYPE)];
    let name = |kind| if kept.contains(&Some(kind)) { kind } else { long_name(kind) };
    identity.claims().map(|(kind, value)| (name(kind), value)).collect()
}

/// The name of a claim that hub code knows, where tokens have a short one.
pub(crate) fn long_name(kind: &str) -> &str {
    LONG_NAMES.binary_search_by(|(short, _)| (*short).cmp(kind)).map_or(kind, |at| LONG_NAMES[at].1)
}

/// The user that claims speak of.
pub(crate) fn user_id<'a>(claims: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> Option<&'a str> {
    let first = |wanted: fn(&str) -> bool| claims.clone().find(|claim| wanted(claim.0)).map(|claim| claim.1);
    first(|kind| kind == USER_ID).or_else(|| first(|kind| long_name(kind) == NAME_IDENTIFIER))
}

/// A claim that is a switch.
pub(crate) fn is_set(identity: &Identity, kind: &str) -> bool {
    identity.claim(kind).is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

/// What a server's library writes for the service begins with it.
pub(crate) const OF_SERVICE: &str = "asrs.s.";
pub(crate) const USER_ID: &str = "asrs.s.uid";
pub(crate) const SERVER: &str = "asrs.s.sn";
pub(crate) const STICKY: &str = "asrs.s.ssticky";
/// Which transports may be offered: bits 1, 2 and 4.
pub(crate) const TRANSPORTS: &str = "asrs.s.htt";
/// Seconds that a client may have no poll here.
pub(crate) const POLL_INTERVAL: &str = "asrs.s.ttl";
pub(crate) const HANDSHAKE_TIMEOUT: &str = "asrs.s.cht";
pub(crate) const CLOSE_ON_EXPIRATION: &str = "asrs.s.coae";
/// When, in seconds since 1970.
pub(crate) const EXPIRES: &str = "asrs.s.aeo";
pub(crate) const DETAILED_ERRORS: &str = "asrs.s.derror";
pub(crate) const DIAGNOSTIC: &str = "asrs.s.dc";
const NAME_TYPE: &str = "asrs.s.nt";
const ROLE_TYPE: &str = "asrs.s.rt";
const NAME_IDENTIFIER: &str = "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/nameidentifier";

/// In the order of the short names.
#[rustfmt::skip]
const LONG_NAMES: [(&str, &str); 73] = [
    ("acr", "http://schemas.microsoft.com/claims/authnclassreference"),
    ("actort", "http://schemas.xmlsoap.org/ws/2009/09/identity/claims/actor"),
    ("adfs1email", "http://schemas.xmlsoap.org/claims/EmailAddress"),
    ("adfs1upn", "http://schemas.xmlsoap.org/claims/UPN"),
    ("amr", "http://schemas.microsoft.com/claims/authnmethodsreferences"),
    ("authmethod", "http://schemas.microsoft.com/ws/2008/06/identity/claims/authenticationmethod"),
    ("birthdate", "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/dateofbirth"),
    ("certapppolicy", "http://schemas.microsoft.com/2012/12/certificatecontext/extension/applicationpolicy"),
    ("certauthoritykeyidentifier", "http://schemas.microsoft.com/2012/12/certificatecontext/extension/authoritykeyidentifier"),
    ("certbasicconstraints", "http://schemas.microsoft.com/2012/12/certificatecontext/extension/basicconstraints"),
    ("certeku", "http://schemas.microsoft.com/2012/12/certificatecontext/extension/eku"),
    ("certissuer", "http://schemas.microsoft.com/2012/12/certificatecontext/field/issuer"),
    ("certissuername", "http://schemas.microsoft.com/2012/12/certificatecontext/field/issuername"),
    ("certkeyusage", "http://schemas.microsoft.com/2012/12/certificatecontext/extension/keyusage"),
    ("certnotafter", "http://schemas.microsoft.com/2012/12/certificatecontext/field/notafter"),
    ("certnotbefore", "http://schemas.microsoft.com/2012/12/certificatecontext/field/notbefore"),
    ("certpolicy", "http://schemas.microsoft.com/2012/12/certificatecontext/extension/certificatepolicy"),
    ("certpublickey", "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/rsa"),
    ("certrawdata", "http://schemas.microsoft.com/2012/12/certificatecontext/field/rawdata"),
    ("certserialnumber", "http://schemas.microsoft.com/ws/2008/06/identity/claims/serialnumber"),
    ("certsignaturealgorithm", "http://schemas.microsoft.com/2012/12/certificatecontext/field/signaturealgorithm"),
    ("certsubject", "http://schemas.microsoft.com/2012/12/certificatecontext/field/subject"),
    ("certsubjectaltname", "http://schemas.microsoft.com/2012/12/certificatecontext/extension/san"),
    ("certsubjectkeyidentifier", "http://schemas.microsoft.com/2012/12/certificatecontext/extension/subjectkeyidentifier"),
    ("certsubjectname", "http://schemas.microsoft.com/2012/12/certificatecontext/field/subjectname"),
    ("certtemplateinformation", "http://schemas.microsoft.com/2012/12/certificatecontext/extension/certificatetemplateinformation"),
    ("certtemplatename", "http://schemas.microsoft.com/2012/12/certificatecontext/extension/certificatetemplatename"),
    ("certthumbprint", "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/thumbprint"),
    ("certx509version", "http://schemas.microsoft.com/2012/12/certificatecontext/field/x509version"),
    ("clientapplication", "http://schemas.microsoft.com/2012/01/requestcontext/claims/x-ms-client-application"),
    ("clientip", "http://schemas.microsoft.com/2012/01/requestcontext/claims/x-ms-client-ip"),
    ("clientuseragent", "http://schemas.microsoft.com/2012/01/requestcontext/claims/x-ms-client-user-agent"),
    ("commonname", "http://schemas.xmlsoap.org/claims/CommonName"),
    ("denyonlyprimarygroupsid", "http://schemas.microsoft.com/ws/2008/06/identity/claims/denyonlyprimarygroupsid"),
    ("denyonlyprimarysid", "http://schemas.microsoft.com/ws/2008/06/identity/claims/denyonlyprimarysid"),
    ("denyonlysid", "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/denyonlysid"),
    ("devicedispname", "http://schemas.microsoft.com/2012/01/devicecontext/claims/displayname"),
    ("deviceid", "http://schemas.microsoft.com/2012/01/devicecontext/claims/identifier"),
    ("deviceismanaged", "http://schemas.microsoft.com/2012/01/devicecontext/claims/ismanaged"),
    ("deviceostype", "http://schemas.microsoft.com/2012/01/devicecontext/claims/ostype"),
    ("deviceosver", "http://schemas.microsoft.com/2012/01/devicecontext/claims/osversion"),
    ("deviceowner", "http://schemas.microsoft.com/2012/01/devicecontext/claims/userowner"),
    ("deviceregid", "http://schemas.microsoft.com/2012/01/devicecontext/claims/registrationid"),
    ("email", "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/emailaddress"),
    ("endpointpath", "http://schemas.microsoft.com/2012/01/requestcontext/claims/x-ms-endpoint-absolute-path"),
    ("family_name", "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/surname"),
    ("forwardedclientip", "http://schemas.microsoft.com/2012/01/requestcontext/claims/x-ms-forwarded-client-ip"),
    ("gender", "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/gender"),
    ("given_name", "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/givenname"),
    ("group", "http://schemas.xmlsoap.org/claims/Group"),
    ("groupsid", "http://schemas.microsoft.com/ws/2008/06/identity/claims/groupsid"),
    ("idp", "http://schemas.microsoft.com/identity/claims/identityprovider"),
    ("insidecorporatenetwork", "http://schemas.microsoft.com/ws/2012/01/insidecorporatenetwork"),
    ("isregistereduser", "http://schemas.microsoft.com/2012/01/devicecontext/claims/isregistereduser"),
    ("nameid", "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/nameidentifier"),
    ("oid", "http://schemas.microsoft.com/identity/claims/objectidentifier"),
    ("ppid", "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/privatepersonalidentifier"),
    ("primarygroupsid", "http://schemas.microsoft.com/ws/2008/06/identity/claims/primarygroupsid"),
    ("primarysid", "http://schemas.microsoft.com/ws/2008/06/identity/claims/primarysid"),
    ("proxy", "http://schemas.microsoft.com/2012/01/requestcontext/claims/x-ms-proxy"),
    ("pwdchgurl", "http://schemas.microsoft.com/ws/2012/01/passwordchangeurl"),
    ("pwdexpdays", "http://schemas.microsoft.com/ws/2012/01/passwordexpirationdays"),
    ("pwdexptime", "http://schemas.microsoft.com/ws/2012/01/passwordexpirationtime"),
    ("relyingpartytrustid", "http://schemas.microsoft.com/2012/01/requestcontext/claims/relyingpartytrustid"),
    ("role", "http://schemas.microsoft.com/ws/2008/06/identity/claims/role"),
    ("roles", "http://schemas.microsoft.com/ws/2008/06/identity/claims/role"),
    ("scp", "http://schemas.microsoft.com/identity/claims/scope"),
    ("sub", "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/nameidentifier"),
    ("tid", "http://schemas.microsoft.com/identity/claims/tenantid"),
    ("unique_name", "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/name"),
    ("upn", "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/upn"),
    ("website", "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/webpage"),
    ("winaccountname", "http://schemas.microsoft.com/ws/2008/06/identity/claims/windowsaccountname"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_mapped_back_and_others_stay() {
        assert!(LONG_NAMES.is_sorted_by(|a, b| a.0 < b.0));
        for (short, long) in [
            ("nameid", NAME_IDENTIFIER),
            ("sub", NAME_IDENTIFIER),
            ("role", "http://schemas.microsoft.com/ws/2008/06/identity/claims/role"),
            ("winaccountname", "http://schemas.microsoft.com/ws/2008/06/identity/claims/windowsaccountname"),
            ("actort", "http://schemas.xmlsoap.org/ws/2009/09/identity/claims/actor"),
            ("Role", "Role"),
            ("asrs.u.iss", "asrs.u.iss"),
        ] {
            assert_eq!(long_name(short), long);
        }
    }

    #[test]
    fn a_server_sees_every_claim_in_its_order() {
        let claims = [("asrs.s.rt", "role"), ("sub", "1"), ("role", "a"), ("roles", "b"), ("role", "c"), ("exp", "9")];
        let identity = Identity::new(None, claims);
        let role = "http://schemas.microsoft.com/ws/2008/06/identity/claims/role";
        let want =
            [("asrs.s.rt", "role"), (NAME_IDENTIFIER, "1"), ("role", "a"), (role, "b"), ("role", "c"), ("exp", "9")];
        assert_eq!(for_server(&identity), want);
    }

    #[test]
    fn the_user_is_the_one_that_the_server_names_or_else_the_first_identifier() {
        let user = |claims: &[(&'static str, &'static str)]| user_id(claims.iter().copied());
        assert_eq!(user(&[("nameid", "1"), ("asrs.s.uid", "ann")]), Some("ann"));
        assert_eq!(user(&[("a", "b"), ("sub", "1"), ("nameid", "2")]), Some("1"));
        assert_eq!(user(&[(NAME_IDENTIFIER, "3")]), Some("3"));
        assert_eq!(user(&[("name", "x")]), None);
    }
}
