import { parse } from 'tldts';
import { toASCII, toUnicode } from 'tr46';

/** A name that cannot be added. `invalid_parameter`: not a hostname. `validation_error`: a hostname we must refuse. */
export class NameRefused extends Error {
  override readonly name = 'NameRefused';
  constructor(
    readonly code: 'invalid_parameter' | 'validation_error',
    /** Finer than the code, stable: `idna_invalid`, `public_suffix`, … */
    readonly reason: string,
    /** Says to the customer what is wrong and what to send. */
    message: string,
  ) {
    super(message);
  }
}

export interface DomainName {
  /** Canonical: A-labels, lower case, no trailing dot. */
  readonly name: string;
  /** The name in its own script; null when that is the same. */
  readonly unicode: string | null;
}

/** Octets of a label and of a name without the root (RFC 1035 section 2.3.4). */
const labelLimit = 63;
const nameLimit = 253;

/** Characters of what is looked at: no form of a name, in whatever script, comes near it. */
const inputLimit = 1_000;

/** What the longest of our records puts in front of the name: `<32 characters>._domainkey.` */
const recordPrefix = 32 + '._domainkey.'.length;

/** Special-use names (RFC 6761 and its registry; RFC 6762, 7686, 8375, 9476) and ICANN's `internal`. */
const specialUse = ['alt', 'arpa', 'example', 'internal', 'invalid', 'local', 'localhost', 'onion', 'test'];

/** Ours, our providers', and those whose mailboxes belong to the public: nobody can prove to own these. */
const reserved = [
  'sendmux.ai',
  'myagent.mx',
  'amazonses.com',
  'amazonaws.com',
  'gmail.com',
  'googlemail.com',
  'outlook.com',
  'hotmail.com',
  'live.com',
  'msn.com',
  'yahoo.com',
  'icloud.com',
  'me.com',
  'aol.com',
  'gmx.com',
  'gmx.net',
  'proton.me',
  'protonmail.com',
  'fastmail.com',
  'mail.ru',
  'yandex.ru',
  'qq.com',
  '163.com',
  'zoho.com',
  'web.de',
];

const notAHostname = (reason: string, message: string) => new NameRefused('invalid_parameter', reason, message);
const notThisOne = (reason: string, message: string) => new NameRefused('validation_error', reason, message);

/**
 * The canonical form of a domain that a customer types: case, one trailing dot and the script are theirs to choose
 * (UTS 46, non-transitional, with the validity of IDNA2008).
 *
 * @throws {NameRefused} `invalid_parameter` for what is no hostname, `validation_error` for a hostname that cannot be a
 * customer's mail domain. The message says what to send.
 */
export function parseDomainName(input: string): DomainName {
  const name = parseHostname(input);
  const labels = name.split('.');
  if (name.length > nameLimit - recordPrefix)
    throw notAHostname(
      'name_too_long',
      `The name has ${name.length} characters, which leaves no room for its DKIM records: ${nameLimit - recordPrefix} is the most.`,
    );
  const unicode = toUnicode(name, { useSTD3ASCIIRules: true }).domain;
  if (specialUse.includes(labels.at(-1)!))
    throw notThisOne(
      'special_use',
      `Names under .${labels.at(-1)} do not exist in the public DNS, so mail can never reach ${name}.`,
    );
  if (reserved.some((domain) => name === domain || name.endsWith(`.${domain}`)))
    throw notThisOne('domain_reserved', `${name} is reserved and cannot be added. Send a domain that you own.`);
  if (parse(name, { allowPrivateDomains: true }).publicSuffix === name)
    throw notThisOne(
      'public_suffix',
      `${name} is a public suffix: anybody registers names under it. Send your own name, such as acme.${name}.`,
    );
  const unicodeLabels = unicode.split('.');
  const mixed = unicodeLabels.find((label) => isConfusable(label, unicodeLabels.at(-1)!));
  if (mixed !== undefined)
    throw notThisOne(
      'domain_confusable',
      `The label ${quoted(mixed)} of ${name} mixes scripts, or looks like Latin letters and is not. Send the name as it is registered; if it is right, contact support.`,
    );
  return { name, unicode: unicode === name ? null : unicode };
}

/**
 * Gives the canonical form of a fully qualified hostname, whoever owns it: A-labels, lower case, no trailing dot.
 *
 * @throws {NameRefused} `invalid_parameter`. The message says what to send.
 */
export function parseHostname(input: string): string {
  if (input.length > inputLimit)
    throw notAHostname(
      'name_too_long',
      `The name has more than ${inputLimit} characters; ${nameLimit} is the most (RFC 1035).`,
    );
  refuseOtherThings(input);
  const written = input.replace(/[.\u3002]$/, '');
  const name = canonical(written);
  const labels = name.split('.');
  if (labels.length < 2 && !parse(name, { allowPrivateDomains: true }).isIcann)
    throw notAHostname(
      'not_fully_qualified',
      `${quoted(input)} is not fully qualified. Send the whole hostname, such as mail.acme.com.`,
    );
  // What URLs read as an IPv4 address: a last label that is a number, in hexadecimal as well.
  if (/^(\d+|0x[0-9a-f]*)$/.test(labels.at(-1)!))
    throw notAHostname('ip_address', `${quoted(input)} is an IP address. Send a hostname, such as mail.acme.com.`);
  return name;
}

/** What people paste instead of a hostname, each with the hostname that they meant. */
function refuseOtherThings(input: string): void {
  if (input.includes('://') || input.includes('/')) {
    const host = /^(?:[a-z][a-z0-9+.-]*:)?\/*(?:[^/?#]*@)?([^/?#@:]+)/i.exec(input)?.[1];
    throw notAHostname('url', `Send the hostname only${host ? `: ${host.toLowerCase()}` : '.'}`);
  }
  if (input.includes('@')) {
    const domain = input.slice(input.lastIndexOf('@') + 1);
    throw notAHostname(
      'email_address',
      `That is an address${domain ? `; did you mean ${domain.toLowerCase()}?` : '.'}`,
    );
  }
  if (input.includes('*'))
    throw notAHostname('wildcard', 'Wildcards are not supported; add each subdomain on its own.');
  if (
    /^\d+(\.\d+){3}\.?$/.test(input) ||
    /^\[.*\]$/.test(input) ||
    (/^[0-9a-f:.]+$/i.test(input) && input.split(':').length > 2)
  )
    throw notAHostname('ip_address', `${quoted(input)} is an IP address. Send a hostname, such as mail.acme.com.`);
  if (input.includes(':'))
    throw notAHostname('url', `Send the hostname only, without a port: ${input.slice(0, input.indexOf(':'))}`);
  if (/\s/.test(input))
    throw notAHostname('hostname_syntax', `${quoted(input)} has white space in it. Send the hostname only.`);
}

function canonical(written: string): string {
  // eslint-disable-next-line no-control-regex -- "not ASCII" is the question
  const ascii = /^[\x00-\x7f]*$/.test(written) && !/(^|\.)xn--/i.test(written);
  if (ascii) {
    const name = written.toLowerCase();
    refuseLengths(name);
    const bad = name.split('.').find((label) => !/^[a-z0-9]([a-z0-9-]*[a-z0-9])?$/.test(label));
    if (bad !== undefined)
      throw notAHostname(
        'hostname_syntax',
        `${bad === '' ? 'An empty label' : quoted(bad)} cannot be part of a hostname: labels are letters, digits and inner hyphens (RFC 1123 section 2.1).`,
      );
    return name;
  }
  const options = { checkBidi: true, checkJoiners: true, useSTD3ASCIIRules: true, transitionalProcessing: false };
  const name = toASCII(written, options)?.toLowerCase();
  if (!name) throw notAHostname('idna_invalid', `${quoted(written)} is not a valid internationalised name (IDNA2008).`);
  refuseLengths(name);
  const wrong = name.split('.').find((label) => {
    const unicode = label.startsWith('xn--') ? toUnicode(label, options) : { domain: label, error: label === '' };
    return unicode.error || hasWrongHyphens(unicode.domain, label) || !isProtocolValid(unicode.domain);
  });
  if (wrong !== undefined)
    throw notAHostname('idna_invalid', `The label ${quoted(wrong)} is not a valid internationalised label (IDNA2008).`);
  return name;
}

/**
 * Tells whether a label begins or ends with a hyphen, or a U-label has two as its third and fourth character (RFC 5891
 * section 4.2.3.1). The A-label alone does not show it: `-ç` is `xn----6fa`.
 */
const hasWrongHyphens = (unicode: string, label: string): boolean =>
  /^-|-$/.test(unicode) || (unicode !== label && /^..--/u.test(unicode));

function refuseLengths(name: string): void {
  const long = name.split('.').find((label) => label.length > labelLimit);
  if (long)
    throw notAHostname(
      'label_too_long',
      `A label has ${long.length} characters; ${labelLimit} is the most (RFC 1035).`,
    );
  if (name.length > nameLimit)
    throw notAHostname('name_too_long', `The name has ${name.length} characters; ${nameLimit} is the most (RFC 1035).`);
}

/** PVALID, CONTEXTJ and CONTEXTO of RFC 5892, by general category and its list of exceptions. */
const protocolValid =
  /^(?:[\p{Ll}\p{Lo}\p{Lm}\p{Mn}\p{Mc}\p{Nd}\u00b7\u0375\u05f3\u05f4\u06fd\u06fe\u0f0b\u3007\u30fb-]|\u200c|\u200d)+$/u;
const protocolInvalid = /[\u0640\u07fa\u3031-\u3035\u303b\u1100-\u11ff\ua960-\ua97f\ud7b0-\ud7ff]|\u302e|\u302f/u;

/** What each CONTEXTO character needs around it (RFC 5892 appendix A.3 to A.9); CONTEXTJ is checked by tr46. */
const outOfContext = [
  /(?<!l)\u00b7|\u00b7(?!l)/u,
  /\u0375(?!\p{Script=Greek})/u,
  /(?<!\p{Script=Hebrew})[\u05f3\u05f4]/u,
  /^(?!.*[\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Han}]).*\u30fb/u,
  /^(?=.*[\u0660-\u0669]).*[\u06f0-\u06f9]/u,
];
const isProtocolValid = (label: string): boolean =>
  protocolValid.test(label) && !protocolInvalid.test(label) && !outOfContext.some((pattern) => pattern.test(label));

const scripts = [
  'Latin',
  'Cyrillic',
  'Greek',
  'Han',
  'Hiragana',
  'Katakana',
  'Hangul',
  'Bopomofo',
  'Arabic',
  'Hebrew',
  'Thai',
  'Devanagari',
  'Armenian',
  'Georgian',
] as const;
const patterns = scripts.map((script) => [script, new RegExp(`\\p{Script=${script}}`, 'u')] as const);
const neutral = /[\p{Script=Common}\p{Script=Inherited}]/u;

/** Sets of scripts that one label may mix: "highly restrictive" of UTS 39 section 5.2. */
const together: readonly (readonly string[])[] = [
  ['Latin', 'Han', 'Hiragana', 'Katakana'],
  ['Latin', 'Han', 'Bopomofo'],
  ['Latin', 'Han', 'Hangul'],
];

/** Cyrillic and Greek letters that cannot be told from Latin ones, and what may stand among them. */
const likeLatin =
  /^[\u0430\u0441\u0435\u043e\u0440\u0445\u0443\u0456\u0458\u0455\u0501\u04bb\u04cf\u051b\u051d\u03bf\u03bd0-9-]+$/u;

/** @param topLabel one in Cyrillic or Greek says what script to expect: "сос.рф" deceives nobody, "сос.com" may. */
function isConfusable(label: string, topLabel: string): boolean {
  const used = new Set<string>();
  for (const character of label) {
    if (neutral.test(character)) continue;
    used.add(patterns.find(([, pattern]) => pattern.test(character))?.[0] ?? 'other');
  }
  if (used.size === 1 && !used.has('Latin')) return /^[a-z0-9-]+$/.test(topLabel) && likeLatin.test(label);
  return used.size > 1 && !together.some((set) => [...used].every((script) => set.includes(script)));
}

const quoted = (text: string): string => `"${text.length > 80 ? `${text.slice(0, 80)}…` : text}"`;
