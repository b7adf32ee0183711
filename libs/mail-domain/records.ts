import { registrableDomain, relativeHost } from './zone';

/** The records that a customer places, with the names and values of the product guide ("Required DNS records"). */
export interface DnsRecords {
  readonly mx: readonly { readonly priority: number; readonly target: string; readonly host: string }[];
  readonly spf: NamedValue;
  readonly dmarc: NamedValue;
  readonly dkim: readonly NamedValue[];
  readonly verification: NamedValue;
}

interface NamedValue {
  /** FQDN without the trailing dot. */
  readonly name: string;
  readonly value: string;
  /** The name relative to the registrable domain, as DNS providers ask for it; `@` at its top. */
  readonly host: string;
}

export const mailHost = 'mail.sendmux.ai';
export const mailHostPreference = 10;
export const spfIncludes = ['amazonses.com', 'sendmux.ai'] as const;
export const spfValue = `v=spf1 ${spfIncludes.map((host) => `include:${host}`).join(' ')} ~all`;
export const dmarcValue = 'v=DMARC1; p=quarantine';
export const verificationPrefix = 'sendmux-verify=';

interface Keyed {
  readonly name: string;
  readonly dkimTokens: readonly string[];
  readonly dkimZone: string;
}

/** The CNAMEs of SES's Easy DKIM, one a token. */
export const dkimRecords = ({ name, dkimTokens, dkimZone }: Keyed): Pick<NamedValue, 'name' | 'value'>[] =>
  dkimTokens.map((token) => ({ name: `${token}._domainkey.${name}`, value: `${token}.${dkimZone}` }));

export function dnsRecords(domain: Keyed & { readonly team: string }): DnsRecords {
  const { name, team } = domain;
  const zone = registrableDomain(name);
  const record = (at: string, value: string) => ({ name: at, value, host: relativeHost(at, zone) });
  return {
    mx: [{ priority: mailHostPreference, target: mailHost, host: relativeHost(name, zone) }],
    spf: record(name, spfValue),
    dmarc: record(`_dmarc.${name}`, dmarcValue),
    dkim: dkimRecords(domain).map((dkim) => record(dkim.name, dkim.value)),
    verification: record(`_sendmux.${name}`, `${verificationPrefix}${team}`),
  };
}
