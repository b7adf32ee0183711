/** Puts what we advise through our own verdicts, as if it were published. Pure. */
import { answerOf, definiteIn, recordsIn, type Answer, type Answers, type MxRr, type Question } from './answers';
import type { Check, Expected, Severity, Warning } from './check';
import { checkNamed, checksOf } from './checks';
import { cnameChain } from './cname-chain';
import { dnameAboveName } from './checks/finding';
import { mailProvider } from './checks/mail-provider';
import type { Finding } from './findings';
import { cut } from './limits';
import { questionsOf } from './judge';
import type { Operation } from './operation';
import { dnameAbove, publishedAt, wildcardAt, type Published, type PublishedName } from './published';
import { ends, isProbe } from './synthesis';

/** What has to be known before a plan is carried out. `blocking`: a check does not pass after it. */
export interface PlanWarning {
  /** Stable, snake_case. */
  readonly code: string;
  readonly severity: Severity;
  readonly message: string;
}

interface Rehearsal {
  /** What resolvers answer once the operations are carried out. */
  readonly answers: Answers;
  readonly findings: readonly Finding[];
}

function rehearse(
  domain: Expected,
  published: Published,
  operations: readonly Operation[],
  of: readonly Check[],
): Rehearsal {
  // The probes were answered by a zone that is another one then.
  const answers = published.followed.where((question) => !isProbe(question));
  for (const question of questionsOf(domain))
    if (question.type !== 'CNAME') {
      const { type, name } = question;
      answers.set(type, name, answerAfter(question, published, operations) as readonly Answer<never>[]);
    }
  // A name that leads to one of ours has other records as well then.
  for (const { type, name } of answers.questions()) {
    const last = definiteIn<unknown>(answers.at(type, name))?.aliases.at(-1);
    const after =
      last !== undefined && published.names.has(last) ? recordsIn<unknown>(answers.at(type, last)) : undefined;
    if (after && !published.names.has(name))
      answers.set(type, name, answerOf(after, [last!]) as readonly Answer<never>[]);
  }
  return { answers, findings: of.map((check) => check.judge(domain, answers, 'success')) };
}

/** Gives the answer to a question once operations are carried out. */
function answerAfter(
  { type, name }: Question,
  published: Published,
  operations: readonly Operation[],
): readonly Answer<unknown>[] {
  const dname = dnameAbove(published, name);
  const before = published.followed.at(type, name);
  if (dname) return before ?? [{ kind: 'nxdomain', aliases: [], dname }];
  const here = operations.filter((each) => each.name === name && each.action !== 'keep');
  const wildcard = wildcardAt(published, name);
  const written = operations.filter(({ action }) => action === 'create' || action === 'replace');
  const isEnded = wildcard !== undefined && written.some((each) => ends(wildcard, name, each.name));
  if (here.length === 0 && !isEnded) return before ?? answerOf([]);
  const stored = publishedAt(wildcard === undefined ? published : { names: new Map() }, name);
  const cname = valuesAfter(here, 'CNAME', stored.cname === null ? [] : [stored.cname])[0];
  const own = valuesAfter(here, type, shownAt(stored, type));
  if (cname !== undefined && own.length === 0) return answerOf(publishedAt(published, name).ledTxt ?? [], [cname]);
  return answerOf<unknown>(type === 'MX' ? own.map(mxOf) : own);
}

const shownAt = ({ txt, mx }: PublishedName, type: Question['type']): readonly string[] =>
  type === 'TXT' ? txt : mx.map(({ preference, exchange }) => `${preference} ${exchange || '.'}`);

function mxOf(value: string): MxRr {
  const [preference, exchange] = value.split(' ') as [string, string];
  return { preference: Number(preference), exchange: exchange === '.' ? '' : exchange };
}

function valuesAfter(here: readonly Operation[], type: Question['type'], stored: readonly string[]): string[] {
  let values = [...stored];
  for (const each of here) {
    if (each.type !== type) continue;
    const gone = each.action === 'delete' ? each.values : each.replaces;
    values = values.filter((value) => !gone.includes(value));
    if (each.action !== 'delete') values.push(...each.values.filter((value) => !values.includes(value)));
  }
  return values;
}

/**
 * Gives the questions whose answers tell what is wrong with the result of operations.
 *
 * @param of the checks that matter; all of the domain where absent.
 */
export function rehearsalQuestions(
  domain: Expected,
  published: Published,
  operations: readonly Operation[],
  of: readonly Check[] = checksOf(domain),
): Question[] {
  const { answers, findings } = rehearse(domain, published, operations, of);
  const planned = of.flatMap((check) => check.planClues?.(domain, published) ?? []);
  const passed = findings
    .filter(({ outcome }) => outcome === 'pass')
    .flatMap(
      (finding) => checkNamed(finding.check)?.clues?.(domain, finding, { answers, clues: answers, ses: null }) ?? [],
    );
  // The name that the domain is by a DNAME may lead back to it.
  const { open } = cnameChain(domain.name, published.followed);
  const renamed = dnameAbove(published, domain.name) && open ? [open] : [];
  return [...planned, ...passed, ...renamed].filter((question) => !isProbe(question) && !answers.has(question));
}

/**
 * Says what our own verdicts say of the result of operations: the checks that fail, and what passes but affects mail.
 *
 * @param of the checks that matter; all of the domain where absent.
 */
export function planWarnings(
  domain: Expected,
  published: Published,
  operations: readonly Operation[],
  of: readonly Check[] = checksOf(domain),
): PlanWarning[] {
  const { answers, findings } = rehearse(domain, published, operations, of);
  const evidence = { answers, clues: answers, ses: null };
  const warnings = [...obstacles(domain, published, of), ...mailFirst(domain, published, operations)];
  for (const finding of findings) {
    const check = checkNamed(finding.check);
    if (!check) continue;
    const { outcome, code, message } = finding;
    if (outcome !== 'pass') {
      if (code !== 'dname_above')
        warnings.push({ code, severity: check.requirement ? 'warning' : 'blocking', message });
      continue;
    }
    const severity = check.severities?.[code] ?? 'info';
    const own: Warning[] = code === 'ok' ? [] : [{ code, severity, message }];
    warnings.push(...[...own, ...(check.warnings?.(domain, finding, evidence) ?? [])].filter(isWorthSaying));
  }
  return warnings;
}

/** Says whose mail ends with a plan that takes the MX records of others away. */
export function mailTaken({ name }: Pick<Expected, 'name'>, operations: readonly Operation[]): PlanWarning[] {
  const hosts = operations
    .filter((each) => each.action === 'delete' && each.type === 'MX' && each.name === name)
    .flatMap(({ values }) => values.map((value) => mxOf(value).exchange))
    .filter((host) => host !== '');
  if (hosts.length === 0) return [];
  const [host] = hosts as [string];
  const provider = mailProvider(host);
  const who = provider === null ? host : `${provider} (${host})`;
  const message = `${who} receives the mail for ${name} now. With this plan that ends: new mail goes to Sendmux, and existing mailboxes stay where they are. To keep that, delete the domain and add it with the mode send_only, or add a name of its own for mail.`;
  return [{ code: 'mail_is_received', severity: 'warning', message }];
}

/** Says that the MX records which a wildcard gives a domain that only sends have to be written before any other. */
function mailFirst({ name, mode }: Expected, published: Published, operations: readonly Operation[]): PlanWarning[] {
  const wildcard = wildcardAt(published, name);
  const kept = operations.find((each) => each.type === 'MX' && each.name === name);
  if (mode !== 'send_only' || wildcard === undefined || !kept) return [];
  return [
    {
      code: 'wildcard_ends',
      severity: 'warning',
      message: `The wildcard ${wildcard} gives ${name} its MX (${cut(kept.values.join(', '))}), and ends with the first record that is placed (RFC 4592 section 2.2.1). Place that MX at ${name} itself before any other record, so that no mail is lost.`,
    },
  ];
}

const isWorthSaying = ({ severity }: PlanWarning): boolean => severity !== 'info';

/** Says which records of some checks cannot be placed at all, each DNAME once. */
export function obstacles(domain: Expected, published: Published, of: readonly Check[]): PlanWarning[] {
  const found = new Map<string, PlanWarning>();
  for (const { name } of of.flatMap((check) => check.records(domain))) {
    const dname = dnameAbove(published, name);
    if (dname && !found.has(dname.owner))
      found.set(dname.owner, {
        code: 'dname_above',
        severity: 'blocking',
        message: dnameAboveName(
          domain.name,
          name,
          dname,
          cnameChain(domain.name, published.followed).loop !== undefined,
        ),
      });
  }
  return [...found.values()];
}
