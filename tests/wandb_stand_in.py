"""A loopback stand-in for the W&B server: the operations that the real client sends for a registry.

Keyed on the names of the GraphQL operations; one that is not here is refused and remembered, so
that a client that speaks otherwise fails loudly. What it does like the service: artifact versions
are numbered when they are committed, contents equal to the latest version's make no new version,
an alias points to one version of a collection, and aliases like v3 are ignored.
"""
import base64, gzip, json, re, threading
from contextlib import contextmanager
from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LAST_PAGE = {'__typename': 'PageInfo', 'endCursor': None, 'hasNextPage': False}
MOMENTS = {'createdAt': '2026-01-01T00:00:00Z', 'updatedAt': '2026-01-01T00:00:00Z'}
FEATURES = ('ARTIFACT_MEMBERSHIP_IN_LINK_ARTIFACT_RESPONSE',)


def edges(nodes): return [{'node': node, 'cursor': str(i)} for i, node in enumerate(nodes)]


class StandIn(ThreadingHTTPServer):
    "The state of the server, and its answers."
    daemon_threads, request_queue_size = True, 64

    def __init__(self, entity='kitchen'):
        super().__init__(('127.0.0.1', 0), Handler)
        self.url = f'http://127.0.0.1:{self.server_port}'
        self.entity, self.lock = entity, threading.RLock()
        self.runs, self.artifacts, self.blobs = {}, {}, {}
        self.links, self.seen, self.refused = [], [], []
        self.troubles = {}  # what to answer instead, by operation

    # What a request asks for

    def answer(self, name, given):
        known = getattr(self, f'do_{name}', None)
        with self.lock:
            self.seen.append(name)
            if name in self.troubles: raise PermissionError(self.troubles[name])
            if known: return known(given.get('input') or given)
            self.refused.append(name)
        raise LookupError(f'the stand-in does not know the operation {name}')

    def do_ServerFeaturesQuery(self, given):
        found = [{'name': name, 'isEnabled': True} for name in FEATURES]
        return {'serverInfo': {'features': found}}

    def do_Viewer(self, given):
        viewer = {'id': 'user', 'entity': self.entity, 'username': self.entity, 'email': '',
                  'flags': '{}', 'teams': {'edges': edges([{'name': self.entity}])}}
        return {'viewer': viewer}

    # Runs

    def do_RunResumeStatus(self, given): return {'model': None}

    def do_UpsertBucket(self, given):
        name = given.get('name') or given.get('id')
        inserted = name not in self.runs
        run = self.runs.setdefault(name, {'files': {}})
        run.update({key: value for key, value in given.items() if value is not None})
        bucket = {'id': name, 'name': name, 'displayName': run.get('displayName') or name,
                  'description': '', 'config': run.get('config') or '{}', 'sweepName': None,
                  'historyLineCount': 0, 'project': {'id': 'project', 'name': run['project'],
                                                     'entity': self.owner}}
        return {'upsertBucket': {'bucket': bucket, 'inserted': inserted}}

    def do_CreateRunFiles(self, given):
        files = [{'name': name, 'uploadUrl': self.place(f'runs/{given["run"]}/{name}')}
                 for name in given['files']]
        return {'createRunFiles': {'runID': given['run'], 'uploadHeaders': [], 'files': files}}

    def streamed(self, run, files):
        for line in files.get('wandb-summary.json', {}).get('content', ()):
            self.runs[run]['summary'] = json.loads(line)

    # Artifacts

    def do_ArtifactType(self, given):
        found = self.committed(given['project'], given['name'].split(':')[0])
        return {'project': {'artifact': {'artifactType': {'name': found[0]['type']}}
                            if found else None}}

    def do_CreateArtifact(self, given):
        name, project = given['artifactCollectionName'], given['projectName']
        latest = max(self.committed(project, name), key=lambda a: a['versionIndex'], default=None)
        if latest and latest['digest'] == given['digest']:
            self.point(latest, [alias['alias'] for alias in given['aliases'] or ()])
            return self.created(latest, latest)
        made = {'id': f'artifact-{len(self.artifacts)}', 'state': 'PENDING', 'versionIndex': None,
                'collection': name, 'project': project,
                'type': given['artifactTypeName'], 'digest': given['digest'],
                'metadata': given['metadata'] or '{}', 'description': given['description'],
                'run': given['runName'], 'aliases': [],
                'wanted': [alias['alias'] for alias in given['aliases'] or ()]}
        self.artifacts[made['id']] = made
        return self.created(made, latest)

    def created(self, artifact, latest):
        shown = latest and {'id': latest['id'], 'versionIndex': latest['versionIndex']}
        return {'createArtifact': {'artifact': {'id': artifact['id'], 'state': artifact['state'],
                                                'artifactSequence': {'latestArtifact': shown}}}}

    def do_CreateArtifactManifest(self, given):
        file = {'id': 'file', 'uploadHeaders': [],
                'uploadUrl': self.place(f'manifests/{given["artifactID"]}')}
        return {'createArtifactManifest': {'artifactManifest': {'id': given['artifactID'],
                                                                'file': file}}}

    def do_CreateArtifactFiles(self, given):
        def node(file):
            place = f'files/{base64.b64decode(file["md5"]).hex()}'
            return {'storagePath': place, 'uploadHeaders': [], 'uploadMultipartUrls': None,
                    'uploadUrl': None if place in self.blobs else self.place(place),
                    'artifact': {'id': file['artifactID']}}
        files = edges([node(file) for file in given['artifactFiles']])
        return {'createArtifactFiles': {'files': {'edges': files}}}

    def do_CommitArtifact(self, given):
        artifact = self.artifacts[given['artifactID']]
        lost = [entry for entry in self.contents(artifact).values()
                if self.file_place(entry) not in self.blobs]
        if lost: raise ValueError(f'files of {artifact["id"]} were not uploaded: {lost}')
        if artifact['state'] == 'PENDING':
            numbers = [a['versionIndex'] for a in self.artifacts.values()
                       if self.key(a) == self.key(artifact) and a['state'] != 'PENDING']
            artifact.update(state='COMMITTED', versionIndex=max(numbers, default=-1) + 1)
            self.point(artifact, [*artifact['wanted'], 'latest'])
        shown = {'id': artifact['id'], 'digest': artifact['digest']}
        return {'commitArtifact': {'artifact': shown}}

    def do_ArtifactByID(self, given):
        return {'artifact': self.shown(self.artifacts[given['id']])}

    def do_ProjectArtifactCollection(self, given):
        found = self.committed(given['project'], given['name'])
        shown = found and {**self.collection(found[0]), 'description': '', 'tags': {'edges': []},
                           'type': {'name': found[0]['type']}, **MOMENTS}
        return {'project': {'artifactType': {'artifactCollection': shown or None}}}

    def do_FetchOrgInfoFromEntity(self, given):
        found = {'name': 'org', 'orgEntity': {'name': 'org-entity'}}
        return {'entity': {'organization': found, 'user': None}}

    def do_ArtifactMembershipByName(self, given):
        collection, alias = given['name'].split(':')
        for artifact in self.committed(given['project'], collection):
            if alias in (f'v{artifact["versionIndex"]}', *artifact['aliases']):
                return {'project': {'artifactCollectionMembership': self.membership(artifact)}}
        return {'project': {'artifactCollectionMembership': None}}

    def do_ProjectArtifacts(self, given):
        found = self.committed(given['project'], given['collection'])
        found = [a for a in found if a['type'] == given['type']]
        if not found: return {'project': {'artifactType': None}}
        found = sorted(found, key=lambda a: -a['versionIndex'])
        start = int(given.get('cursor') or 0)
        stop = start + given['perPage']
        page = [{'version': f'v{a["versionIndex"]}', 'node': self.shown(a), 'cursor': '0'}
                for a in found[start:stop]]
        more = {'__typename': 'PageInfo', 'endCursor': str(stop), 'hasNextPage': stop < len(found)}
        collection = {'__typename': 'ArtifactSequence', 'artifacts': {
            'totalCount': len(found), 'pageInfo': more, 'edges': page}}
        return {'project': {'artifactType': {'artifactCollection': collection}}}

    def do_FetchArtifactManifest(self, given):
        file = {'__typename': 'File', 'directUrl': self.place(f'manifests/{given["id"]}')}
        return {'artifact': {'currentManifest': {'__typename': 'ArtifactManifest', 'file': file}}}

    def do_GetArtifactMembershipFileUrls(self, given):
        artifact, = (a for a in self.committed(given['project'], given['collection'])
                     if given['alias'] == f'v{a["versionIndex"]}')
        files = [{'__typename': 'File', 'name': name, 'directUrl': self.place(self.file_place(e))}
                 for name, e in self.contents(artifact).items()]
        found = {'__typename': 'ArtifactSequence', 'artifactMembership': {
            'files': {'pageInfo': LAST_PAGE, 'edges': edges(files)}}}
        return {'project': {'artifactCollection': found}}

    def do_AddAliases(self, given):
        self.point(self.artifacts[given['artifactID']], [a['alias'] for a in given['aliases']])
        return {'result': {'success': True}}

    def do_DeleteAliases(self, given):
        aliases = self.artifacts[given['artifactID']]['aliases']
        for alias in given['aliases']: aliases.remove(alias['alias'])
        return {'result': {'success': True}}

    def do_UpdateArtifact(self, given):
        artifact = self.artifacts[given['artifactID']]
        shown = {'metadata', 'description'} & {*given}
        artifact.update({name: given[name] for name in shown})
        return {'result': {'artifact': self.shown(artifact)}}

    def do_LinkArtifact(self, given):
        artifact = self.artifacts[given['artifactID']]
        place = f'{given["projectName"]}/{given["artifactPortfolioName"]}'
        self.links.append((place, artifact['id'], [a['alias'] for a in given['aliases']]))
        return {'result': {'versionIndex': 0, 'artifactMembership': self.membership(artifact)}}

    def do_DeleteArtifact(self, given):
        self.artifacts[given['artifactID']]['state'] = 'DELETED'
        return {'result': {'artifact': {'id': given['artifactID']}}}

    # Helpers

    @property
    def owner(self): return {'__typename': 'Entity', 'id': 'entity', 'name': self.entity}

    def place(self, key): return f'{self.url}/storage/{key}'

    def key(self, artifact): return artifact['project'], artifact['collection']

    def committed(self, project, collection):
        return [a for a in self.artifacts.values()
                if (*self.key(a), a['state']) == (project, collection, 'COMMITTED')]

    def contents(self, artifact):
        return json.loads(self.blobs[f'manifests/{artifact["id"]}'])['contents']

    def file_place(self, entry): return f'files/{base64.b64decode(entry["digest"]).hex()}'

    def point(self, artifact, aliases):
        for alias in aliases:
            if re.fullmatch(r'v\d+', alias): continue
            for other in self.committed(*self.key(artifact)):
                other['aliases'] = [name for name in other['aliases'] if name != alias]
            artifact['aliases'].append(alias)

    def collection(self, artifact):
        project = {'__typename': 'Project', 'id': 'project', 'internalId': 'cHJvamVjdDp2MTpwOjE=',
                   'name': artifact['project'], 'entity': self.owner}
        return {'__typename': 'ArtifactSequence', 'id': artifact['collection'],
                'name': artifact['collection'], 'project': project}

    def shown(self, artifact):
        collection = self.collection(artifact)
        names = [f'v{artifact["versionIndex"]}', *artifact['aliases']]
        aliases = [{'__typename': 'ArtifactAlias', 'id': name, 'alias': name,
                    'artifactCollection': collection} for name in names]
        return {'__typename': 'Artifact', 'id': artifact['id'], 'artifactSequence': collection,
                'versionIndex': artifact['versionIndex'],
                'artifactType': {'name': artifact['type']},
                'description': artifact['description'], 'metadata': artifact['metadata'],
                'ttlDurationSeconds': -1, 'ttlIsInherited': True, 'tags': [], 'historyStep': None,
                'state': artifact['state'], 'size': 1, 'digest': artifact['digest'],
                'commitHash': 'c', 'fileCount': 1, 'aliases': aliases, **MOMENTS}

    def membership(self, artifact):
        shown = self.shown(artifact)
        return {'__typename': 'ArtifactCollectionMembership', 'id': artifact['id'],
                'versionIndex': artifact['versionIndex'], 'artifact': shown,
                'aliases': shown['aliases'], 'artifactCollection': self.collection(artifact),
                **MOMENTS}


class Handler(BaseHTTPRequestHandler):
    protocol_version, wbufsize = 'HTTP/1.1', -1  # an answer in one piece

    def log_message(self, *args): pass

    def body(self):
        if self.headers.get('Transfer-Encoding') != 'chunked':
            return self.rfile.read(int(self.headers.get('Content-Length') or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b''.join(parts)

    def reply(self, code, content):
        self.send_response(code)
        self.send_header('Content-Length', str(len(content)))
        self.send_header('ETag', md5(content).hexdigest())
        self.end_headers()
        self.wfile.write(content)

    def do_GET(self):
        found = self.server.blobs.get(self.path.removeprefix('/storage/'))
        self.reply(200 if found is not None else 404, found or b'')

    def do_PUT(self):
        self.server.blobs[self.path.removeprefix('/storage/')] = self.body()
        self.reply(200, b'')

    def do_CONNECT(self):  # a call to another host, sent here as to a proxy
        self.server.refused.append(self.path)
        self.reply(502, b'')

    def do_POST(self):
        body = self.body()
        if self.headers.get('Content-Encoding') == 'gzip': body = gzip.decompress(body)
        if self.path.startswith('/sdk/otel/'): return self.reply(200, b'{}') # the client's timings
        asked = json.loads(body)
        if self.path.endswith('/file_stream'):
            self.server.streamed(self.path.split('/')[-2], asked.get('files') or {})
            return self.reply(200, b'{}')
        name = re.search(r'(?:query|mutation)\s+(\w+)', asked['query'])[1]
        try: answer = {'data': self.server.answer(name, asked.get('variables') or {})}
        except Exception as e: answer = {'errors': [{'message': f'{type(e).__name__}: {e}'}]}
        self.reply(200, json.dumps(answer).encode())


@contextmanager
def stand_in():
    "A server on a free loopback port, for as long as the block lasts."
    server = StandIn()
    thread = threading.Thread(target=server.serve_forever, kwargs={'poll_interval': .05})
    thread.start()
    try: yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
