import { useState } from 'preact/hooks';
import { answerTo, type Api, type Schemas } from '../shared/api';
import { announce } from '../shared/announce';
import { Warnings } from '../shared/plan';
import { Problem } from '../shared/problem';
import { Outside, Value, Values } from '../shared/value';
import { Field, Title } from './parts';
import { go, Link } from './router';
import { NotAllowed, useMay, useSession } from './session';
import { useAction } from './use-api';

type Preflight = Schemas['PreflightSchema'];
type Mode = 'send_receive' | 'send_only';

export function AddDomainPage() {
  const may = useMay();
  return (
    <>
      <Title page="Add a domain">Add a domain</Title>
      {may('domain.create') ? <Form /> : <NotAllowed to="add domains" permission="domain.create" />}
    </>
  );
}

/** Shows what an add would change, and adds only then. */
function Form() {
  const { api, refresh } = useSession();
  const may = useMay();
  const [domain, setDomain] = useState('');
  const [mode, setMode] = useState<Mode>('send_receive');
  const [seen, setSeen] = useState<Preflight>();
  /** The id of the domain where the team has it already. */
  const [own, setOwn] = useState<string>();
  const look = useAction();
  const add = useAction();
  const claim = useAction();

  const body = { domain: domain.trim(), mode };
  const preflight = (): void =>
    void look.run(async () => {
      const { data } = await answerTo(api.POST('/domains/preflight', { body }));
      setOwn(isTakenBy(data) && may('domain.read') ? await ownDomain(api, data.domain) : undefined);
      setSeen(data);
      announce(data.can_be_added ? 'This is what it changes.' : 'It cannot be added.');
    });
  const change = (next: Partial<{ domain: string; mode: Mode }>): void => {
    // What was seen is of another name or mode now.
    setSeen(undefined);
    if (next.domain !== undefined) setDomain(next.domain);
    if (next.mode !== undefined) setMode(next.mode);
  };
  const isTaken = add.failure?.code === 'conflict' || (seen !== undefined && isTakenBy(seen));
  return (
    <>
      <form
        class="card"
        onSubmit={(event) => {
          event.preventDefault();
          preflight();
        }}
      >
        <Field
          id="domain"
          label="Domain"
          hint="What stands after the @ in its addresses, such as mail.acme.com."
          required
          maxLength={1000}
          value={domain}
          onValue={(value) => change({ domain: value })}
        />
        <fieldset>
          <legend>What it is for</legend>
          <label>
            <input
              type="radio"
              name="mode"
              checked={mode === 'send_receive'}
              onChange={() => change({ mode: 'send_receive' })}
            />{' '}
            Send and receive mail
          </label>
          <label>
            <input
              type="radio"
              name="mode"
              checked={mode === 'send_only'}
              onChange={() => change({ mode: 'send_only' })}
            />{' '}
            Send only: whoever receives its mail now goes on receiving it
          </label>
        </fieldset>
        {look.failure && <Problem failure={look.failure} />}
        <p>
          <button class={seen ? '' : 'main'} disabled={look.isBusy}>
            {look.isBusy ? 'Looking …' : 'See what it changes'}
          </button>
        </p>
      </form>
      {seen && (
        <section class="card" aria-labelledby="seen">
          <h2 id="seen">
            <Outside text={seen.domain_unicode ?? seen.domain} /> now
          </h2>
          <Now seen={seen} />
          {/* What to do about a name that is taken is said below, by what a page can do. */}
          <Warnings warnings={seen.findings.filter(({ code }) => code !== 'name_taken')} />
          {seen.findings.length === 0 && <p>Nothing stands in the way, and nothing that works now ends.</p>}
          {add.failure && <Problem failure={add.failure} />}
          {own !== undefined ? (
            <div class="stack">
              <p class="note">Your team has it already.</p>
              <p>
                <Link to={`/domains/${own}`} class="button main">
                  Open it
                </Link>
              </p>
            </div>
          ) : isTaken ? (
            <div class="stack">
              <p class="note bad">
                <Outside text={seen.domain_unicode ?? seen.domain} /> cannot be added: it is in use already.
              </p>
              <p>
                If it is yours and another team has added it, claim it: you get a record to publish in its DNS, which
                proves that it is yours. <Link to="/claims">Your claims</Link>
              </p>
              {claim.failure && <Problem failure={claim.failure} />}
              <p>
                <button
                  type="button"
                  disabled={claim.isBusy}
                  onClick={() =>
                    void claim
                      .run(() => answerTo(api.POST('/domains/claims', { body: { domain: seen.domain, mode } })))
                      .then((done) => done && go('/claims'))
                  }
                >
                  Claim this domain
                </button>
              </p>
            </div>
          ) : (
            <p>
              <button
                type="button"
                class="main"
                disabled={!seen.can_be_added || add.isBusy}
                onClick={() =>
                  void add.run(async () => {
                    const { data } = await answerTo(api.POST('/domains', { body }));
                    announce(`${data.domain} is added.`);
                    void refresh();
                    go(`/domains/${data.id}`);
                  })
                }
              >
                {add.isBusy ? 'Adding …' : 'Add this domain'}
              </button>
            </p>
          )}
        </section>
      )}
    </>
  );
}

const isTakenBy = ({ findings }: Preflight): boolean => findings.some(({ code }) => code === 'name_taken');

/** Gives the id of a domain of the team by its name. */
async function ownDomain(api: Api, domain: string): Promise<string | undefined> {
  const { data } = await answerTo(api.GET('/domains', { params: { query: { name: domain, limit: 100 } } }));
  return data.find((each) => each.domain === domain)?.id;
}

function Now({ seen }: { readonly seen: Preflight }) {
  const receivers = seen.received_by.map(
    ({ priority, target, provider }) => `${priority} ${target}${provider === null ? '' : ` (${provider})`}`,
  );
  return (
    <dl class="facts">
      <dt>Zone</dt>
      <dd>
        <Value text={seen.zone} />
      </dd>
      <dt>Mail is received by</dt>
      <dd>{receivers.length === 0 ? 'nobody' : <Values values={receivers} />}</dd>
      {seen.cname !== null && (
        <>
          <dt>CNAME</dt>
          <dd>
            <Value text={seen.cname} />
          </dd>
        </>
      )}
      <dt>SPF</dt>
      <dd>{seen.spf.length === 0 ? 'none' : <Values values={seen.spf} />}</dd>
      <dt>DMARC</dt>
      <dd>
        {seen.dmarc.length > 0 ? (
          <Values values={seen.dmarc} />
        ) : seen.inherited_dmarc === null ? (
          'none'
        ) : (
          `inherited: ${seen.inherited_dmarc}`
        )}
      </dd>
    </dl>
  );
}
