import { answerTo, type Schemas } from '../shared/api';
import { announce } from '../shared/announce';
import { Badge, type Tone } from '../shared/badge';
import { Copied } from '../shared/copy';
import { Problem } from '../shared/problem';
import { shownTime } from '../shared/time';
import { Outside, Prose, Value } from '../shared/value';
import { List, Title } from './parts';
import { Link } from './router';
import { NotAllowed, useMay, useSession } from './session';
import { useAction, usePages } from './use-api';

type Claim = Schemas['ClaimSchema'];

const standings: Readonly<Record<string, { readonly tone: Tone; readonly words: string }>> = {
  pending: { tone: 'wait', words: 'Not proved yet' },
  succeeded: { tone: 'good', words: 'Yours now' },
  refused: { tone: 'wait', words: 'Proved, but still held by another team' },
  failed: { tone: 'bad', words: 'Could not be set up' },
  expired: { tone: 'plain', words: 'Expired' },
};

export function ClaimsPage() {
  const may = useMay();
  return (
    <>
      <Title page="Claims">Claims</Title>
      <p class="quiet">
        For a domain of yours that another team has added: publish a record that proves it is yours, and have it
        checked.{' '}
        {may('domain.create') && (
          <>
            To claim one, <Link to="/domains/new">add it</Link>: you are offered a claim where another team has it.
          </>
        )}
      </p>
      {may('domain.read') ? <Claims /> : <NotAllowed to="list claims" permission="domain.read" />}
    </>
  );
}

function Claims() {
  const { api } = useSession();
  const pages = usePages((cursor) => answerTo(api.GET('/domains/claims', { params: { query: { cursor } } })), [api]);
  return (
    <List pages={pages} empty={<p class="note">Your team has no claims.</p>}>
      {(claims) => (
        <ul class="plain stack">
          {claims.map((claim) => (
            <ClaimCard key={claim.id} claim={claim} reload={pages.reload} />
          ))}
        </ul>
      )}
    </List>
  );
}

function ClaimCard({ claim, reload }: { readonly claim: Claim; readonly reload: () => Promise<void> }) {
  const { api } = useSession();
  const may = useMay();
  const { run, failure, isBusy } = useAction();
  const { record } = claim;
  const params = { path: { id: claim.id } };
  const isOpen = claim.status === 'pending' || claim.status === 'refused';
  return (
    <li class="card">
      <div class="row apart">
        <h2>
          <Outside text={claim.domain} />
        </h2>
        <Badge {...(standings[claim.status] ?? { tone: 'plain', words: claim.status })} />
      </div>
      {claim.reason && (
        <p class="note wait">
          {claim.status === 'pending' && 'The record of your team was not found. '}
          <Prose text={claim.reason.message} />
        </p>
      )}
      {isOpen && claim.last_checked_at !== null && (
        <p class="quiet small">Last checked {shownTime(claim.last_checked_at)}.</p>
      )}
      {claim.domain_id !== undefined && (
        <p>
          <Link to={`/domains/${claim.domain_id}`}>Open the domain</Link>
        </p>
      )}
      {isOpen && (
        <>
          <p>
            {claim.status === 'refused'
              ? `Leave this ${record.type} record in place, and check again once the other one is gone.`
              : `Publish this ${record.type} record. One of another team may stand beside it.`}{' '}
            The claim ends {shownTime(claim.expires_at)}.
          </p>
          <dl class="facts">
            <dt>Full name</dt>
            <dd>
              <Copied text={record.name} what="the name of the record">
                <Value text={record.name} />
              </Copied>
            </dd>
            <dt>Value</dt>
            <dd>
              <Copied text={record.value} what="the value of the record">
                <Value text={record.value} />
              </Copied>
            </dd>
          </dl>
          {may('domain.create') && (
            <div class="row">
              <button
                type="button"
                class="main"
                disabled={isBusy}
                onClick={() =>
                  void run(async () => {
                    const { data } = await answerTo(api.POST('/domains/claims/{id}/verify', { params }));
                    announce(
                      data.status === 'succeeded' ? `${data.domain} is yours.` : 'It is not yours yet: see why.',
                    );
                    await reload();
                  })
                }
              >
                {isBusy ? 'Checking …' : 'Check now'}
              </button>
              <button
                type="button"
                class="danger"
                disabled={isBusy}
                onClick={() =>
                  void run(async () => {
                    await answerTo(api.DELETE('/domains/claims/{id}', { params }));
                    announce('The claim is withdrawn.');
                    await reload();
                  })
                }
              >
                Withdraw
              </button>
            </div>
          )}
        </>
      )}
      {failure && <Problem failure={failure} />}
    </li>
  );
}
