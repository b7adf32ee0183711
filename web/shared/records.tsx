import type { Schemas } from './api';
import { RecordStatus } from './badge';
import { Copied } from './copy';
import { nameInZone, zoneOf } from './names';
import { useState } from 'preact/hooks';
import { count } from './text';
import { Prose, Value, Values } from './value';

type DnsRecord = Schemas['RecordSchema'];

/** Says what is published in place of a record. */
function Published({ record }: { readonly record: DnsRecord }) {
  const { status, last_seen: seen, checked_at: checkedAt } = record;
  if (status === 'not_checked' || checkedAt === null) return <>Nobody has looked yet.</>;
  if (seen.length === 0) return <>Nothing.</>;
  return <Values values={seen} />;
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

function RecordCard({ record, zone }: { readonly record: DnsRecord; readonly zone: string }) {
  const { type, name, value, status } = record;
  const what = `${type} ${name}`;
  const relative = nameInZone(name, zone);
  return (
    <li class="card" data-status={status}>
      <div class="row apart">
        <h3>
          {type} <span class="quiet">for</span> <Prose text={purposes[record.purpose] ?? record.purpose} />
        </h3>
        <RecordStatus status={status} />
      </div>
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
        </dd>
        <dt>TTL</dt>
        <dd>{count(record.ttl, 'second')}</dd>
        <dt>Published now</dt>
        <dd>
          <Published record={record} />
        </dd>
      </dl>
    </li>
  );
}

/** How many records are laid out at once. */
const page = 50;

/**
 * Shows the records of a domain, each with what to copy and where it stands.
 *
 * @param zone that the short names are relative to; absent: the one that the API counts from.
 */
export function Records({ records, zone }: { readonly records: readonly DnsRecord[]; readonly zone?: string }) {
  const [shown, setShown] = useState(page);
  return (
    <>
      <ul class="plain stack">
        {records.slice(0, shown).map((record) => (
          <RecordCard key={`${record.type} ${record.name}`} record={record} zone={zone ?? zoneOf(record)} />
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
