import { useState } from 'preact/hooks';
import { ApiFailure, asFailure, failureOf } from './api';
import { announce } from './announce';
import { CopyButton } from './copy';
import { Problem } from './problem';

const formats = {
  bind: 'Zone file (BIND, most providers)',
  route53: 'Route 53',
  terraform: 'Terraform',
  octodns: 'octoDNS',
  dnscontrol: 'DNSControl',
  nsupdate: 'nsupdate',
} as const;
export type ZoneFileFormat = keyof typeof formats;

/** The text of a zone file, and the name of a file for it. */
export interface ZoneFile {
  readonly name: string;
  readonly text: string;
}

/** Reads the zone file of an answer. @throws {ApiFailure} for a refusal. */
export function zoneFileOf({
  data,
  error,
  response,
}: {
  readonly data?: string;
  readonly error?: unknown;
  readonly response: Response;
}): ZoneFile {
  if (!response.ok) throw failureOf(error, response);
  const name = /filename="([^"\\/]+)"/.exec(response.headers.get('content-disposition') ?? '')?.[1];
  return { name: name ?? 'records.txt', text: data ?? '' };
}

function save({ name, text }: ZoneFile): void {
  const url = URL.createObjectURL(new Blob([text], { type: 'text/plain' }));
  const link = document.createElement('a');
  link.href = url;
  link.download = name;
  link.click();
  URL.revokeObjectURL(url);
}

/** Offers all records as files for tools, and as text to copy. */
export function ZoneFiles({ read }: { readonly read: (format: ZoneFileFormat) => Promise<ZoneFile> }) {
  const [failure, setFailure] = useState<ApiFailure>();
  const [text, setText] = useState<string>();

  async function withFile(format: ZoneFileFormat, act: (file: ZoneFile) => void): Promise<void> {
    try {
      act(await read(format));
      setFailure(undefined);
    } catch (error) {
      setFailure(asFailure(error));
    }
  }
  return (
    <div class="stack">
      <p class="quiet">
        All records at once, for a zone that has none of them yet. Where records are to be replaced, follow the steps.
      </p>
      <div class="row">
        {(Object.keys(formats) as ZoneFileFormat[]).map((format) => (
          <button
            key={format}
            type="button"
            onClick={() =>
              void withFile(format, (file) => {
                save(file);
                announce(`${file.name} is downloaded.`);
              })
            }
          >
            {formats[format]}
          </button>
        ))}
        <button type="button" aria-expanded={text !== undefined} onClick={() => void withFile('bind', show)}>
          All records as text
        </button>
      </div>
      {failure && <Problem failure={failure} />}
      {text !== undefined && (
        <>
          <pre class="value whole" tabIndex={0} role="group" aria-label="All records as text">
            {text}
          </pre>
          <p>
            <CopyButton text={text} what="all records as text" />
          </p>
        </>
      )}
    </div>
  );
  function show(file: ZoneFile): void {
    setText(file.text);
  }
}
