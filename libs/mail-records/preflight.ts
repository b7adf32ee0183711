/**
 * What a customer should know before adding a domain: who has its mail now, and what our records would change. Pure.
 */
import type { Expected } from './check';
import { inheritedDmarc, seenAt } from './checks/dmarc';
import { dmarcName } from './checks/dmarc/judge';
import { looksLikeDmarc } from './checks/dmarc/meant';
import { mailHost, mailProvider } from './checks/mail-provider';
import { looksLikeSpf } from './checks/spf/merge';
import { cutList, limits } from './limits';
import { dnsPlan } from './plan';
import { dnameAbove, publishedAt, wildcardAt, type Published } from './published';
import { escaped } from './record-set';
import { planWarnings, type PlanWarning } from './rehearsal';

export interface PreflightFinding {
  /** Stable, snake_case. */
  readonly code: string;
  /** `blocking`: the domain cannot be added. `warning`: something that works now would stop or change. */
  readonly severity: 'info' | 'warning' | 'blocking';
  /** Says to people what it is, and what to do. */
  readonly message: string;
}

/** What the findings are about: the add of a domain, or the upgrade of one that only sends. */
export type Step = 'add' | 'upgrade';

export interface Preflight {
  /** False when nothing is published at the name, nor below it. */
  readonly nameExists: boolean;
  /**
   * Where the first MX records lead now, by preference, `limits.entries` at most; provider is null for one that we do
   * not know.
   */
  readonly receivedBy: readonly {
    readonly preference: number;
    readonly host: string;
    readonly provider: string | null;
  }[];
  readonly cname: string | null;
  /** SPF records at the name. */
  readonly spf: readonly string[];
  /** DMARC records of the name itself. */
  readonly dmarc: readonly string[];
  /** Policy that the name inherits while it has no DMARC record of its own. */
  readonly inheritedDmarc: 'none' | 'quarantine' | 'reject' | null;
  readonly findings: readonly PreflightFinding[];
}

/**
 * @param domain its name, and the mode that it shall have.
 * @param zone that holds the name, for the advice on a name of its own.
 * @param hasAddress whether the name has an IPv4 or IPv6 address.
 */
export function preflight(
  { name, mode }: Pick<Expected, 'name' | 'mode'>,
  published: Published,
  zone: string,
  hasAddress: boolean,
  step: Step = 'add',
): Preflight {
  const willReceive = mode !== 'send_only';
  const domain = publishedAt(published, name);
  const { cname } = domain;
  const mx = [...(domain.ledMx ?? domain.mx)].sort(
    (a, b) => a.preference - b.preference || (a.exchange < b.exchange ? -1 : 1),
  );
  const receivedBy = mx
    .filter(({ exchange }) => exchange !== '')
    .map(({ preference, exchange }) => ({ preference, host: exchange, provider: mailProvider(exchange) }));
  const ours = mx.find(({ exchange }) => exchange === mailHost);
  // A backup stays one: our MX ends the mail of hosts that have it before ours now, or share it.
  const foreign = receivedBy.filter(
    ({ host, preference }) => host !== mailHost && (!ours || preference <= ours.preference),
  );
  const spf = [...new Set(domain.txt.filter(looksLikeSpf))].sort();
  const own = [...new Set(seenAt(publishedAt(published, dmarcName(name))).filter(looksLikeDmarc))].sort();
  const inherited = own.length === 0 ? (inheritedDmarc(name, published) ?? null) : null;

  const findings: PreflightFinding[] = [];
  const say = (severity: PreflightFinding['severity'], code: string, message: string) =>
    findings.push({ code, severity, message });
  const ownName = `add a name of its own for mail, such as mail.${name === zone ? zone : name}`;
  const instead = `To keep that, ${ownName}.`;
  const sendOnly = {
    add: `To keep that, add it with the mode send_only, which leaves its MX as it is, or ${ownName}.`,
    upgrade: `To keep that, leave its MX as it is, delete the domain and add it with the mode send_only again, or ${ownName}: an upgrade is not taken back.`,
  }[step];
  const mailFirst =
    willReceive || mx.length === 0
      ? ''
      : ` Its MX stops as well: the DNS plan has it for ${name} itself, to be placed before any other record, so that mail goes on to whoever has it.`;
  if (!domain.exists)
    say('info', 'domain_nxdomain', `${name} does not exist in the DNS yet. Its records bring it into being.`);
  const wildcard = wildcardAt(published, name);
  if (wildcard !== undefined)
    say(
      'warning',
      'wildcard_ends',
      `The wildcard ${wildcard} answers for ${name} now${cname === null ? '' : `, with a CNAME to ${cname}`}. All that it serves there stops with the first record of ours (RFC 4592 section 2.2.1).${mailFirst} ${instead}`,
    );
  else if (cname !== null && !dnameAbove(published, name))
    say(
      'warning',
      'cname_at_name',
      `${name} is a CNAME to ${cname}, and a name with a CNAME can have no MX or TXT record (RFC 1034 section 3.6.2). It would have to go.${mailFirst} ${instead}`,
    );
  if (willReceive && foreign.length > 0) {
    const { host, provider } = foreign[0]!;
    const who = provider === null ? host : `${provider} (${host})`;
    say(
      'warning',
      'mail_is_received',
      `${who} receives the mail for ${name} now. With our MX that ends: new mail goes to Sendmux, and existing mailboxes stay where they are. ${sendOnly}`,
    );
  }
  if (willReceive && mx.length === 0 && cname === null && hasAddress)
    say(
      'warning',
      'mail_by_address',
      `${name} has no MX record, so mail for it goes to the host at its address (RFC 5321 section 5.1). If that host takes mail, it ends with our MX. ${sendOnly}`,
    );
  if (willReceive && domain.mx.some(({ exchange }) => exchange === ''))
    say(
      'warning',
      'mx_null',
      `${name} has a null MX: it says that it accepts no mail (RFC 7505). It would have to go.`,
    );
  if (spf.length > 1)
    say('warning', 'spf_multiple', `${name} has ${spf.length} SPF records, which receivers refuse. They become one.`);
  else if (spf.length === 1)
    say('info', 'spf_exists', `The SPF record of ${name} gets our two includes, and keeps its own terms.`);
  if (own.length > 0)
    say(
      'info',
      'dmarc_exists',
      `${name} has a DMARC record. It stays when it says p=quarantine or p=reject, and is strengthened when it is weaker.`,
    );
  else if (inherited !== null)
    say(
      'info',
      'dmarc_inherited',
      `${name} inherits the DMARC policy ${inherited} from its parent. It gets a record of its own, which is no weaker.`,
    );
  for (const { code, message } of advice({ name, mode }, published)) say('warning', code, message);
  return {
    nameExists: domain.exists,
    receivedBy: receivedBy.slice(0, limits.entries),
    cname,
    spf: cutList(spf, limits.list, escaped),
    dmarc: cutList(own, limits.list, escaped),
    inheritedDmarc: inherited,
    findings,
  };
}

/** Gives what is wrong with the records that the plan would give the domain, but what is said already. */
function advice(domain: Pick<Expected, 'name' | 'mode'>, published: Published): PlanWarning[] {
  const added = { ...domain, team: '', dkimTokens: [], dkimZone: '', sesRegion: '' };
  return planWarnings(added, published, dnsPlan(added, published)).filter(
    ({ code, severity }) => severity === 'breaking' || code === 'dname_above' || code === 'mta_sts_present',
  );
}
