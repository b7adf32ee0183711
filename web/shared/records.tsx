import type { Schemas } from './api';
import { RecordStatus } from './badge';
import { Copied } from './copy';
import { nameInZone, zoneOf } from './names';
import { useState } from 'preact/hooks';
import { count } from './text';
import { MxFields, Outside, Prose, Value, Values } from './value';

type DnsRecord = Schemas['RecordSchema'];

/** Says what is published in place of a record. */
function Published({ record }: { readonly record: DnsRecord }) {
  const { status, purpose, last_seen: seen, checked_at: checkedAt } = record;
  if (status === 'not_checked' || checkedAt === null) return <>Nobody has looked yet.</>;
  if (seen.length > 0) return <Values values={seen} />;
  // Nobody but Amazon SES looks at these, so that what is published there is not known.
  if (purpose === 'dkim')
    return <>Amazon SES looks at it itself, and has {status === 'verified' ? 'found it' : 'not found it yet'}.</>;
  if (status === 'wrong') return <>Something else, which is in the way.</>;
  if (status === 'propagating') return <>Not the same everywhere yet.</>;
  return <>Nothing.</>;
}

/** What a record is for, by the check that it is of; another one is named as the API names it. */
const purposes: Readonly<Record<string, string>> = {
  mx: 'receiving mail',
  spf: 'SPF: who may send',
  dmarc: 'DMARC: what receivers do with forgeries',
  verification_txt: 'proving that the domain is yours',
  dkim: 'DKIM: signing mail',
  mail_from_mx: 'bounces',
  mail_from_spf: 'SPF of bounces',
};

function RecordCard({
  record,
  zone,
  isWhole,
}: {
  readonly record: DnsRecord;
  readonly zone: string;
  readonly isWhole: boolean;
}) {
  // What changes meanwhile must not close under the hands of whoever reads it.
  const [isOpen] = useState(isWhole || record.status === 'wrong');
  const { type, name, value, status } = record;
  const what = `${type} ${name}`;
  const relative = nameInZone(name, zone);
  return (
    <li class="card" data-status={status}>
      <details open={isOpen}>
        <summary>
          <h3>
            {type} <span class="quiet">for</span> <Prose text={purposes[record.purpose] ?? record.purpose} />{' '}
            <span class="value quiet">
              <Outside text={relative} />
            </span>
          </h3>
          <RecordStatus status={status} />
        </summary>
        <dl class="facts">
          <dt>Name</dt>
          <dd>
            <Copied text={relative} what={`the name of ${what}, within the zone`}>
              <Value text={relative} />
            </Copied>
          </dd>
          <dt>Full name</dt>
          <dd>
            <Copied text={name} what={`the full name of ${what}`}>
              <Value text={name} />
            </Copied>
          </dd>
          <dt>Value</dt>
          <dd>
            <Copied text={value} what={`the value of ${what}`}>
              <Value text={value} />
            </Copied>
            <MxFields type={type} value={value} />
          </dd>
          <dt>TTL</dt>
          <dd>{count(record.ttl, 'second')}</dd>
          <dt>Published now</dt>
          <dd>
            <Published record={record} />
          </dd>
        </dl>
      </details>
    </li>
  );
}

/** How many records are laid out at once. */
const page = 50;

/**
 * Shows where each record of a domain stands, and on demand what to copy.
 *
 * @param isWhole whether all of each record is shown from the beginning, as where no steps say what to place.
 * @param zone that the short names are relative to; absent: the one that the API counts from.
 */
export function Records({
  records,
  isWhole = false,
  zone,
}: {
  readonly records: readonly DnsRecord[];
  readonly isWhole?: boolean;
  readonly zone?: string;
}) {
  const [shown, setShown] = useState(page);
  const [chosen, setChosen] = useState<boolean>();
  const areWhole = chosen ?? isWhole;
  return (
    <>
      <p>
        <button type="button" class="text" aria-expanded={areWhole} onClick={() => setChosen(!areWhole)}>
          {areWhole ? 'Show them in brief' : 'Show all of each record'}
        </button>
      </p>
      <ul class="plain stack">
        {records.slice(0, shown).map((record) => (
          <RecordCard
            key={`${record.type} ${record.name} ${areWhole}`}
            record={record}
            zone={zone ?? zoneOf(record)}
            isWhole={areWhole}
          />
        ))}
      </ul>
      {records.length > shown && (
        <p>
          <button type="button" onClick={() => setShown(shown + page)}>
            Show more records
          </button>
        </p>
      )}
    </>
  );
}

/** Says how many of the records are in place. */
export function inPlace(records: readonly DnsRecord[]): string {
  const placed = records.filter(({ status }) => status === 'verified').length;
  return `${placed} of ${count(records.length, 'record')} in place`;
}
