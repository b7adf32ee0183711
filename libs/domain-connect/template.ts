import type { Expected } from '@app/mail-records';

/** The names by which providers know our template: ours, and that of what it sets up. */
export const providerId = 'sendmux.ai';
export const serviceId = 'mail';

/** The group of the records that a domain which only sends does without. */
const receiving = 'receive';
const always = 'send';

const ttl = 3600;
const dkim = (number: number) =>
  ({
    type: 'CNAME',
    groupId: always,
    host: `%dkim${number}%._domainkey`,
    pointsTo: `%dkim${number}%.%dkimzone%`,
    ttl,
    essential: 'Always',
  }) as const;

/**
 * The template that a DNS provider applies (draft-ietf-dconn-domainconnect, "Template Definition"). Each provider keeps
 * a copy, which `docs/domain-connect` has as a file: what is changed here needs a higher version, and their word again.
 *
 * SPF is merged by the provider (`SPFM`). No record type merges DMARC, so its tags are a variable: those of the plan,
 * which never weakens a policy that is there.
 */
export const template = {
  providerId,
  providerName: 'Sendmux',
  serviceId,
  serviceName: 'Sendmux mail domain',
  version: 1,
  logoUrl: 'https://sendmux.ai/logo.svg',
  description: 'Lets Sendmux send and receive the mail of a domain: MX, SPF, DKIM, DMARC, MAIL FROM and ownership.',
  variableDescription:
    'team: id of the team that owns the domain. dkim1, dkim2, dkim3: DKIM tokens of Amazon SES. dkimzone: zone of the DKIM keys in Amazon SES. region: Region of Amazon SES. dmarc: tags of the DMARC record after its version.',
  syncPubKeyDomain: providerId,
  syncRedirectDomain: providerId,
  records: [
    { type: 'MX', groupId: receiving, host: '@', pointsTo: 'mail.sendmux.ai', priority: 10, ttl, essential: 'Always' },
    { type: 'SPFM', groupId: always, host: '@', spfRules: 'include:amazonses.com include:sendmux.ai' },
    {
      type: 'TXT',
      groupId: always,
      host: '_dmarc',
      data: 'v=DMARC1; %dmarc%',
      ttl,
      txtConflictMatchingMode: 'Prefix',
      txtConflictMatchingPrefix: 'v=DMARC1',
      essential: 'OnApply',
    },
    dkim(1),
    dkim(2),
    dkim(3),
    {
      type: 'TXT',
      groupId: always,
      host: '_sendmux',
      data: 'sendmux-verify=%team%',
      ttl,
      txtConflictMatchingMode: 'Prefix',
      txtConflictMatchingPrefix: 'sendmux-verify=',
      essential: 'Always',
    },
    {
      type: 'MX',
      groupId: always,
      host: 'bounce',
      pointsTo: 'feedback-smtp.%region%.amazonses.com',
      priority: 10,
      ttl,
    },
    { type: 'SPFM', groupId: always, host: 'bounce', spfRules: 'include:amazonses.com' },
  ],
} as const;

/** The values of the template's variables. */
export type Variables = Readonly<
  Record<'team' | 'dkim1' | 'dkim2' | 'dkim3' | 'dkimzone' | 'region' | 'dmarc', string>
>;

/** The form of tags that a template can carry: printable, without the mark of variables, and without escapes. */
const dmarcForm = /^[ -$&-[\]-~]{1,400}$/;

/**
 * Gives the values for a domain.
 *
 * @param dmarc the DMARC record that the domain is to have, as the plan writes it.
 * @returns undefined where the record cannot be carried by a template.
 */
export function variablesOf({ team, dkimTokens, dkimZone, sesRegion }: Expected, dmarc: string): Variables | undefined {
  const [dkim1, dkim2, dkim3, ...more] = dkimTokens;
  const version = /^v=DMARC1[ \t]*;[ \t]*/.exec(dmarc)?.[0];
  const tags = version && dmarc.slice(version.length);
  if (dkim1 === undefined || dkim2 === undefined || dkim3 === undefined || more.length > 0) return undefined;
  if (tags === undefined || !dmarcForm.test(tags)) return undefined;
  return { team, dkim1, dkim2, dkim3, dkimzone: dkimZone, region: sesRegion, dmarc: tags };
}

/** Gives the groups of the template that a domain needs. */
export const groupsOf = ({ mode }: Pick<Expected, 'mode'>): readonly string[] =>
  mode === 'send_only' ? [always] : [always, receiving];
