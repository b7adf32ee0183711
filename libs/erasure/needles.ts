import { domainToUnicode } from 'node:url';

/** The octets before a group of three of base64 that are cut from its beginning: they depend on what comes before. */
const base64Cuts = [0, 2, 3];

/** Characters that continue an address to the left or a name to the right, so that it is another one. */
const before = '[[:alnum:]_.+-]';
const after = '[[:alnum:]-]|\\.[[:alnum:]]';
/** Escapes that end in such a character and still end a word: of JSON, of URLs, and of PostgreSQL's octets. */
const escapes = ['\\\\[nrtbf]', '\\\\u[0-9a-fA-F]{4}', '%[0-9a-fA-F]{2}', '\\\\[0-7]{3}'];

/**
 * What an address looks like wherever it may have been written: in clear, with its domain in A-labels or in letters, in
 * JSON and URLs with escapes, as octets of a `bytea`, in hexadecimal digits and in base64.
 */
export interface Needles {
  /** Texts that are found whatever the case of their letters. */
  readonly anyCase: readonly string[];
  /** Texts of which the case matters, and which have no boundaries. */
  readonly exact: readonly string[];
}

/** Gives the needles of an address in its canonical form. */
export function needlesOf(address: string): Needles {
  const at = address.lastIndexOf('@');
  const [localPart, domain] = [address.slice(0, at), address.slice(at + 1)];
  const domains = new Set([domain, domainToUnicode(domain) || domain]);
  const forms = [...domains].flatMap((name) => {
    const form = `${localPart}@${name}`;
    return [...new Set([form.normalize('NFC'), form.normalize('NFD')])];
  });
  return {
    anyCase: unique(
      forms.flatMap((form) => {
        const json = form.replace(/[^\x20-\x7e]/gu, (letter) =>
          Array.from(
            { length: letter.length },
            (_, i) => `\\u${letter.charCodeAt(i).toString(16).padStart(4, '0')}`,
          ).join(''),
        );
        const octal = Array.from(Buffer.from(form), (octet) =>
          octet < 0x80 ? String.fromCharCode(octet) : `\\${octet.toString(8).padStart(3, '0')}`,
        ).join('');
        return [
          form,
          encodeURI(form),
          encodeURIComponent(form),
          json,
          octal,
          // A row that is written as text doubles the backslashes of its columns.
          json.replaceAll('\\', '\\\\'),
          octal.replaceAll('\\', '\\\\'),
        ];
      }),
    ),
    exact: unique(
      forms.flatMap((form) => [
        Buffer.from(form).toString('hex'),
        ...base64Cuts.flatMap((cut, shift) => {
          const octets = Buffer.concat([Buffer.alloc(shift), Buffer.from(form)]);
          const whole = Math.floor((octets.length * 8) / 6);
          return (['base64', 'base64url'] as const).map((code) => octets.toString(code).slice(cut, whole));
        }),
      ]),
    ),
  };
}

/** Gives a regular expression of PostgreSQL for each: the first ignores case, the second does not. */
export function patternsOf(all: readonly Needles[]): { readonly anyCase: string; readonly exact: string } {
  const anyOf = (texts: readonly string[]) => `(?:${texts.map(escaped).join('|')})`;
  const begins = `(?:(?<!${before})|${escapes.map((escape) => `(?<=${escape})`).join('|')})`;
  return {
    anyCase: `${begins}${anyOf(all.flatMap(({ anyCase }) => anyCase))}(?!${after})`,
    exact: anyOf(all.flatMap(({ exact }) => exact)),
  };
}

/** Tells whether a text has one of the addresses, as `patternsOf` does in PostgreSQL. */
export function finder(all: readonly Needles[]): (text: string) => boolean {
  const { anyCase, exact } = patternsOf(all);
  const ignoring = new RegExp(anyCase.replaceAll('[:alnum:]', '\\p{L}\\p{N}'), 'iu');
  const strict = new RegExp(exact, 'u');
  return (text) => ignoring.test(text) || strict.test(text);
}

const unique = (texts: readonly string[]): string[] => [...new Set(texts)];

const escaped = (text: string): string => text.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&');
