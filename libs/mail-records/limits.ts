/**
 * The limits of what a zone can put into an event, an answer and a mail. Anybody may publish records of 64 KiB, and
 * each octet may take six in JSON. An event has to fit into one message of Kafka with the brokers' own settings
 * (`message.max.bytes`, 1,048,588 octets with the headers), with the findings of all checks together. Pure.
 */
import { createHash } from 'node:crypto';
import type { Operation } from './operation';
import { escaped } from './record-set';

/** The limits are octets of JSON text in UTF-8, unless said otherwise. */
export const limits = {
  /** One value, such as the text of a TXT record. Records that mail works with are far shorter. */
  value: 4_096,
  /** All values of one list, such as `observed` of a finding. */
  list: 32_768,
  /** One text for people, which may quote a value. */
  text: 8_192,
  /** The CNAMEs on the way to the answer of one resolver, and its Extended DNS Errors. */
  evidence: 4_096,
  /** The number of operations, or of mail hosts, that an answer shows one by one. */
  entries: 50,
} as const;

/** The most octets that one UTF-16 code unit takes in JSON. */
const mostOctets = 6;
/** Octets that are kept free for the note about what was cut. */
const noteOctets = 128;

/** A text whose characters are an octet each in JSON, as most records are. */
const isPlain = /^[ !#-[\]-~]*$/;

/** Counts the octets of a text in JSON, without the quotes around it. */
export const jsonOctets = (text: string): number =>
  isPlain.test(text) ? text.length : Buffer.byteLength(JSON.stringify(text)) - 2;

const fits = (text: string, limit: number): boolean =>
  text.length * mostOctets <= limit || (text.length <= limit && jsonOctets(text) <= limit);

/**
 * Cuts a text that is longer than the limit, and adds how many octets the whole text has, and their SHA-256. Texts that
 * differ beyond the limit differ here too.
 *
 * @param show how each character is shown; characters as they are when absent. The limit is for the result.
 */
export function cut(text: string, limit: number = limits.value, show = (part: string): string => part): string {
  if (text.length <= limit) {
    const whole = show(text);
    if (fits(whole, limit)) return whole;
  }
  const octets = octetsOf(text);
  const note = `… (cut: ${octets.length} octets, SHA-256 ${sha256(octets)})`;
  let room = limit - jsonOctets(note);
  let end = 0;
  /** The octets that each character takes as it is shown. */
  const taken = new Map<string, number>();
  for (const character of text) {
    const one = taken.get(character) ?? jsonOctets(show(character));
    taken.set(character, one);
    room -= one;
    if (room < 0) break;
    end += character.length;
  }
  return show(text.slice(0, end)) + note;
}

/** Quotes what a zone says in a text for people. */
export const quoted = (text: string): string => cut(text, limits.value, escaped);

/**
 * Cuts each value of a list, and leaves out those beyond the limit of the list. A last value then says how many were
 * left out, and the SHA-256 of their octets with a line feed after each.
 */
export function cutList(
  values: readonly string[],
  limit: number = limits.list,
  show?: (part: string) => string,
): string[] {
  const kept: string[] = [];
  let room = limit - noteOctets;
  for (const [i, value] of values.entries()) {
    const text = cut(value, Math.min(limits.value, limit - noteOctets), show);
    // Two quotes and a comma.
    room -= jsonOctets(text) + 3;
    if (room < 0) {
      const rest = Buffer.concat(values.slice(i).map((each) => octetsOf(`${each}\n`)));
      return [...kept, `… (left out: ${values.length - i} more, SHA-256 ${sha256(rest)})`];
    }
    kept.push(text);
  }
  return kept;
}

/**
 * Gives operations as an answer shows them. What is beyond `limits.entries` is joined to one operation for each
 * action, name and type.
 *
 * @param show how each character of a value is shown.
 */
export const shownOperations = (operations: readonly Operation[], show: (part: string) => string): Operation[] =>
  [...operations.slice(0, limits.entries), ...joined(operations.slice(limits.entries))].map((each) => ({
    ...each,
    values: cutList(each.values, limits.list, show),
    replaces: cutList(each.replaces, limits.list, show),
    reason: cut(each.reason, limits.text),
  }));

function joined(operations: readonly Operation[]): Operation[] {
  const groups = new Map<string, Operation[]>();
  for (const each of operations) {
    const key = `${each.action} ${each.name} ${each.type}`;
    const group = groups.get(key);
    if (group) group.push(each);
    else groups.set(key, [each]);
  }
  return [...groups.values()].map((group) => ({
    ...group[0]!,
    values: group.flatMap(({ values }) => values),
    replaces: group.flatMap(({ replaces }) => replaces),
  }));
}

/** Texts from a zone have one character for each octet; other texts are taken in UTF-8. */
const octetsOf = (text: string): Buffer =>
  // eslint-disable-next-line no-control-regex -- all octets, control characters included
  Buffer.from(text, /^[\x00-\xff]*$/.test(text) ? 'latin1' : 'utf8');

const sha256 = (octets: Buffer): string => createHash('sha256').update(octets).digest('hex');
