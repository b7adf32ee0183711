/**
 * SPF records by the grammar of RFC 7208 section 12. Only what a static check needs: no macro is expanded, nothing is
 * looked up.
 */
export const spfIncludes = ['amazonses.com', 'sendmux.ai'] as const;
export const spfValue = `v=spf1 ${spfIncludes.map((host) => `include:${host}`).join(' ')} ~all`;

export type SpfTerm =
  | {
      readonly kind: 'mechanism';
      readonly qualifier: '' | '+' | '-' | '~' | '?';
      readonly name: string;
      /** A domain, in lower case; of `ip4` and `ip6` what is common to all of their addresses, `/0`, else nothing. */
      readonly value: string;
    }
  | { readonly kind: 'modifier'; readonly name: string; readonly value: string };

export type SpfRecord = { readonly terms: readonly SpfTerm[] } | { readonly syntaxError: string };

/** Whether a TXT RR is an SPF record at all: the version, then a space or the end (section 4.5). */
export const isSpf = (text: string): boolean => /^v=spf1( |$)/i.test(text);

/**
 * Terms are separated by one space or more; anything else in their place is an error of the whole record (section 4.6).
 */
export const parseSpf = (text: string): SpfRecord => (text === spfValue ? advised : parse(text));

function parse(text: string): SpfRecord {
  const terms: SpfTerm[] = [];
  for (const word of text.slice('v=spf1'.length).split(' ')) {
    if (word === '') continue;
    const term = parseTerm(word);
    if (!term) return { syntaxError: word };
    terms.push(term);
  }
  const single = ['redirect', 'exp'].find(
    (name) => terms.filter((term) => term.kind === 'modifier' && term.name === name).length > 1,
  );
  return single ? { syntaxError: `${single}= twice` } : { terms };
}

const macroOf = (letters: string): string => String.raw`%\{[${letters}](?:0*[1-9]\d*)?r?[.+\-,/_=]*\}|%%|%_|%-`;
/**
 * The macros of a domain-spec. `c`, `r` and `t` belong to the text that an `exp=` leads to (section 7.2), and to no
 * name.
 */
const macro = macroOf('slodiphv');
/** What an unknown modifier has, which nobody expands. */
const macroString = new RegExp(String.raw`^(?:[\x21-\x24\x26-\x7e]|${macroOf('slodiphcrtv')})*$`, 'i');
const domainEnd = String.raw`(?:\.(?!\d+\.?$)[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.?|${macro})$`;
/**
 * A domain-spec: labels and macros, ending in a top label or a macro. Stricter than section 7.1 where there is no
 * macro: a comma, a colon or the like is legal in such a name, but is a slip of the pen, and leaves the record
 * authorising nobody who was meant.
 */
const plainDomain = new RegExp(String.raw`^(?!\.)(?:[a-z0-9_-]|\.(?!\.))*${domainEnd}`, 'i');
const macroDomain = new RegExp(String.raw`^(?:[\x21-\x24\x26-\x7e]|${macro})*${domainEnd}`, 'i');
const isDomainSpec = (text: string): boolean => (text.includes('%') ? macroDomain : plainDomain).test(text);
const cidr4 = String.raw`\/(?:[12]?\d|3[0-2])`;
const cidr6 = String.raw`\/(?:[1-9]?\d|1[01]\d|12[0-8])`;
const hosts = new RegExp(`^(?::(?<domain>.+?))?(?:${cidr4})?(?:/${cidr6})?$`);

/** What may follow the name of a mechanism (sections 5 and 12). */
const mechanisms = new Map<string, RegExp>([
  ['all', /^$/],
  ['include', /^:(?<domain>.+)$/],
  ['exists', /^:(?<domain>.+)$/],
  ['a', hosts],
  ['mx', hosts],
  ['ptr', /^(?::(?<domain>.+))?$/],
  ['ip4', new RegExp(`^:(?<ip4>[\\d.]+)(?:${cidr4})?$`)],
  ['ip6', new RegExp(`^:(?<ip6>[0-9a-f:.]+)(?:${cidr6})?$`, 'i')],
]);

/** Terms read lately. One look and its advice read the same record a dozen times, and anybody may publish 64 KiB. */
const termsRead = new Map<string, SpfTerm | undefined>();
const termsReadLimit = 10_000;
/** The longest term that is kept, in octets. */
const keptTermLimit = 300;

/** Reads one term; undefined where no receiver can. */
export function parseTerm(word: string): SpfTerm | undefined {
  if (word.length > keptTermLimit) return readTerm(word);
  if (termsRead.has(word)) return termsRead.get(word);
  if (termsRead.size >= termsReadLimit) termsRead.clear();
  const term = readTerm(word);
  termsRead.set(word, term);
  return term;
}

function readTerm(word: string): SpfTerm | undefined {
  const modifier = /^([a-z][a-z0-9_.-]*)=(.*)$/is.exec(word);
  if (modifier) {
    const [, name, value] = modifier as unknown as [string, string, string];
    const isValid = /^(redirect|exp)$/i.test(name) ? isDomainSpec(value) : macroString.test(value);
    return isValid ? { kind: 'modifier', name: name.toLowerCase(), value: hostOf(value) } : undefined;
  }
  const directive = /^([+\-~?]?)([a-z][a-z0-9]*)/i.exec(word);
  if (!directive) return undefined;
  const [whole, qualifier, written] = directive as unknown as [string, '' | '+' | '-' | '~' | '?', string];
  const rest = word.slice(whole.length);
  const name = written.toLowerCase();
  const match = mechanisms.get(name)?.exec(rest);
  if (!match) return undefined;
  const { domain, ip4, ip6 } = match.groups ?? {};
  if (domain !== undefined && !isDomainSpec(domain)) return undefined;
  if (ip4 !== undefined && !isIp4(ip4)) return undefined;
  if (ip6 !== undefined && !isIp6(ip6)) return undefined;
  const everybody = (ip4 ?? ip6) !== undefined && /\/0$/.test(rest) ? '/0' : '';
  return { kind: 'mechanism', qualifier, name, value: domain === undefined ? everybody : hostOf(domain) };
}

const isIp4 = (text: string): boolean => {
  const parts = text.split('.');
  return parts.length === 4 && parts.every((part) => /^(0|[1-9]\d{0,2})$/.test(part) && Number(part) <= 255);
};

/** RFC 4291 section 2.2: eight groups, or fewer around one `::`; the last two may be an IPv4 address. */
function isIp6(text: string): boolean {
  const halves = text.split('::');
  const groups = halves.flatMap((half) => (half === '' ? [] : half.split(':')));
  const tail = groups.at(-1)?.includes('.') && !text.endsWith('::') ? groups.pop() : undefined;
  const count = groups.length + (tail === undefined ? 0 : 2);
  return (
    groups.every((group) => /^[0-9a-f]{1,4}$/i.test(group)) &&
    (tail === undefined || isIp4(tail)) &&
    (halves.length === 1 ? count === 8 : halves.length === 2 && count < 8)
  );
}

/** Hosts compare without case and without the trailing dot (section 4.3, RFC 4343). */
const hostOf = (value: string): string => (value.includes('%') ? value : value.toLowerCase().replace(/\.$/, ''));

/** The record that we advise is parsed once, since most domains publish exactly that. */
const advised = parse(spfValue);
