/**
 * SPF records by the grammar of RFC 7208 section 12. Only what a static check needs: no macro is expanded, nothing is looked
 * up.
 */
export type SpfTerm =
  | {
      readonly kind: 'mechanism';
      readonly qualifier: '' | '+' | '-' | '~' | '?';
      readonly name: string;
      readonly value: string;
    }
  | { readonly kind: 'modifier'; readonly name: string; readonly value: string };

export type SpfRecord = { readonly terms: readonly SpfTerm[] } | { readonly syntaxError: string };

/** Whether a TXT RR is an SPF record at all: the version, then a space or the end (section 4.5). */
export const isSpf = (text: string): boolean => /^v=spf1( |$)/i.test(text);

/** Terms are separated by one space or more; anything else in their place is an error of the whole record (section 4.6). */
export function parseSpf(text: string): SpfRecord {
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

/** What may follow the name of a mechanism (sections 5 and 12). */
const mechanisms: Record<string, RegExp> = {
  all: /^$/,
  include: /^:(?<value>\S+)$/,
  exists: /^:(?<value>\S+)$/,
  a: /^(:(?<value>[^/]+))?(\/\d{1,2})?(\/\/\d{1,3})?$/,
  mx: /^(:(?<value>[^/]+))?(\/\d{1,2})?(\/\/\d{1,3})?$/,
  ptr: /^(:(?<value>\S+))?$/,
  ip4: /^:(?<value>\d{1,3}(\.\d{1,3}){3}(\/\d{1,2})?)$/,
  ip6: /^:(?<value>[0-9a-f:.]+(\/\d{1,3})?)$/i,
};
const takesDomain = new Set(['include', 'exists', 'a', 'mx', 'ptr']);

function parseTerm(word: string): SpfTerm | undefined {
  const modifier = /^([a-z][a-z0-9_.-]*)=(.*)$/i.exec(word);
  if (modifier) {
    const [, name, value] = modifier as unknown as [string, string, string];
    if (!/^[\x21-\x7e]*$/.test(value)) return undefined;
    if (/^(redirect|exp)$/i.test(name) && !isDomainSpec(value)) return undefined;
    return { kind: 'modifier', name: name.toLowerCase(), value: hostOf(value) };
  }
  const directive = /^([+\-~?]?)([a-z][a-z0-9]*)(.*)$/is.exec(word);
  if (!directive) return undefined;
  const [, qualifier, written, rest] = directive as unknown as [string, '' | '+' | '-' | '~' | '?', string, string];
  const name = written.toLowerCase();
  const match = mechanisms[name]?.exec(rest);
  if (!match) return undefined;
  const value = match.groups?.value ?? '';
  if (value !== '' && takesDomain.has(name) && !isDomainSpec(value)) return undefined;
  return { kind: 'mechanism', qualifier, name, value: hostOf(value) };
}

/** A name, or one with macros in it (section 7.1); one trailing dot is allowed. */
const isDomainSpec = (value: string): boolean =>
  /^(?:[a-z0-9_-]|\.(?!\.)|%\{[slodiphcrtv]\d*r?[.+,/_=-]*\}|%%|%_|%-)+$/i.test(value) && !value.startsWith('.');

/** Hosts compare without case and without the trailing dot (section 4.3, RFC 4343). */
const hostOf = (value: string): string => (value.includes('%') ? value : value.toLowerCase().replace(/\.$/, ''));
