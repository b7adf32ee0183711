/** The records that a customer places, with the names and values of the product guide ("Required DNS records"). */
export interface DnsRecords {
  readonly mx: readonly { readonly priority: number; readonly target: string }[];
  readonly spf: NamedValue;
  readonly dmarc: NamedValue;
  readonly dkim: readonly NamedValue[];
  readonly verification: NamedValue;
}

interface NamedValue {
  /** FQDN without the trailing dot. */
  readonly name: string;
  readonly value: string;
}

export const mailHost = 'mail.sendmux.ai';
export const mailHostPreference = 10;
export const spfIncludes = ['amazonses.com', 'sendmux.ai'] as const;
export const spfValue = `v=spf1 ${spfIncludes.map((host) => `include:${host}`).join(' ')} ~all`;
export const dmarcValue = 'v=DMARC1; p=quarantine';
export const verificationPrefix = 'sendmux-verify=';

export function dnsRecords(domain: {
  name: string;
  team: string;
  dkimTokens: readonly string[];
  dkimZone: string;
}): DnsRecords {
  const { name, team, dkimTokens, dkimZone } = domain;
  return {
    mx: [{ priority: mailHostPreference, target: mailHost }],
    spf: { name, value: spfValue },
    dmarc: { name: `_dmarc.${name}`, value: dmarcValue },
    dkim: dkimTokens.map((token) => ({ name: `${token}._domainkey.${name}`, value: `${token}.${dkimZone}` })),
    verification: { name: `_sendmux.${name}`, value: `${verificationPrefix}${team}` },
  };
}
